"""Metrics as one JSON object per line, in `<run_dir>/metrics.jsonl`."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from framework.errors import DamagedError
from framework.files import open_to_append, read_file, replace_file, retry, write_all
from framework.rundir.metric_lines import METRICS_FILE, encode_records, read_metrics
from framework.rundir.metrics import with_lost_records

log = logging.getLogger(__name__)


class JsonlTracker:
    """Append each record immediately.

    Lines that are damaged, or that a killed attempt left incomplete, are dropped with a warning, and lost records are
    recovered from the newest checkpoint.

    Raises `UnreadableError` if the file system cannot read the records of earlier attempts.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / METRICS_FILE
        self._has_warned = False
        self._descriptor: int | None = None
        found, problems = _read(self.path)
        for problem in problems:
            log.warning("⚠ %s, which are dropped", problem)
        self._records, num_lost = with_lost_records(run_dir, found)
        if num_lost:
            log.warning("⚠ %s: %d epochs were lost; recovered from the newest checkpoint", self.path, num_lost)
        text, self._check = encode_records(self._records)
        self._is_behind = True  # the file does not contain exactly the records
        with suppress(OSError):
            self._is_behind = read_file(self.path) != text.encode()
        self._write("")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record; if the disk is full it is kept in memory and written together with a later one."""
        line, self._check = encode_records([record], self._check)
        self._records.append(dict(record))
        self._write(line)

    def cut_back(self, node: str, step: int) -> None:
        """Drop the node's records after `step`."""
        kept = [r for r in self._records if r["node"] != node or r["step"] <= step]
        if len(kept) < len(self._records):
            self._records, self._is_behind = kept, True
            _, self._check = encode_records(kept)
            self._write("")

    def close(self) -> None:
        """Flush the records to disk and close the file."""
        with self._warn_once():
            if self._descriptor is not None:
                os.fsync(self._descriptor)
        self._close()

    def _write(self, line: str) -> None:
        """Append the line, or write the whole file again if it lacks earlier records."""
        with self._warn_once():
            if self._is_behind:
                self._close()
                replace_file(self.path, encode_records(self._records)[0])
                self._is_behind = False
            elif line:
                self._is_behind = True  # until the whole line is written
                if self._descriptor is None:
                    self._descriptor = retry(lambda: open_to_append(self.path))
                write_all(self._descriptor, line.encode())
                self._is_behind = False

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    @contextmanager
    def _warn_once(self) -> Iterator[None]:
        """Turn write errors into a single warning, because training must not stop for its metrics."""
        try:
            yield
        except OSError as error:
            if not self._has_warned:
                log.warning("⚠ %s: metrics are not written (%s); training continues", self.path, error.strerror)
            self._has_warned = True


def _read(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        metrics = read_metrics(path)
    except DamagedError as error:  # not a regular file
        return [], [f"{error}: its lines"]
    return metrics.records, metrics.problems
