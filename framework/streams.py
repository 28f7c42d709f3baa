"""Standard streams and a log file whose failure does not end a run."""

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
    """Passes on what is written, and never fails.

    If the terminal or the pipe is gone, output is discarded from then on; if the disk is full, until there is space.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` where that is possible."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        """Flush where that is possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._let_go(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _let_go(self, error: OSError) -> None:
        if error.errno not in _FULL:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class LogFile(logging.FileHandler):
    """Appends to a regular file only: a link could lead to somebody else's file.

    If the file cannot be opened, it says so once on standard error, and logging continues without it.
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
                print(f"⚠ {self.baseFilename}: nothing is logged there ({error.strerror})", file=sys.stderr)
        if not self._has_failed:
            super().emit(record)

    def _opened(self) -> TextIOWrapper:
        descriptor = retry(lambda: open_to_append(Path(self.baseFilename)))
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)


def outlive_terminal() -> None:
    """Make writing to both standard streams never fail, and logging silent about what it cannot write."""
    logging.raiseExceptions = False
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, BrokenPipeSafeStream):
            setattr(sys, name, cast(TextIO, BrokenPipeSafeStream(stream)))
