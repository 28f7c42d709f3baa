"""Standard output, standard error and a log file whose loss does not end a run."""

import errno
import logging
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

from framework.files import open_to_append, retry

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BrokenPipeSafeStream:
    """Wrapper of a stream whose writes never fail.

    Once the terminal or pipe is closed, output is discarded; on a full disk, it is discarded until there
    is space again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` if possible."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._discard_output(error)
            return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._discard_output(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _discard_output(self, error: OSError) -> None:
        if error.errno not in _FULL:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self._stream.fileno())
            os.close(devnull)


class LogFile(logging.FileHandler):
    """Handler that appends to a regular file only, since a link could lead to any other file.

    If the file cannot be opened, this is reported once on standard error, and logging continues without it.
    """

    _has_failed = False

    def __init__(self, filename: str, encoding: str = "utf-8", **options: Any) -> None:
        super().__init__(filename, encoding=encoding, **{**options, "delay": True})  # `emit` opens it

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, if the file could be opened."""
        if self.stream is None and not self._has_failed:
            try:
                self.stream = self._opened()
            except OSError as error:
                self._has_failed = True
                print(
                    f"⚠ {self.baseFilename}: cannot be opened, so nothing is logged there ({error.strerror})",
                    file=sys.stderr,
                )
        if not self._has_failed:
            super().emit(record)

    def _opened(self) -> TextIOWrapper:
        descriptor = retry(lambda: open_to_append(Path(self.baseFilename)))
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)


def outlive_terminal() -> None:
    """Make both standard streams safe from closed terminals and pipes, and silence errors of logging."""
    logging.raiseExceptions = False
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, BrokenPipeSafeStream):
            setattr(sys, name, cast(TextIO, BrokenPipeSafeStream(stream)))
