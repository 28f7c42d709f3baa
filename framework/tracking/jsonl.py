"""Metrics as one JSON object per line, in `<run_dir>/metrics.jsonl`."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class JsonlTracker:
    """Appends each record and flushes it; a half-written last line of a killed attempt is dropped."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "metrics.jsonl"
        self._has_warned = False
        self._rewrite(self.read())

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record; on a full disk it is kept, and written with a later one."""
        with self._told():
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def cut_back(self, node: str, step: int) -> None:
        """Drop the node's records after `step`."""
        self.close()
        self._rewrite([r for r in self.read() if r["node"] != node or r["step"] <= step])

    def close(self) -> None:
        """Close the file."""
        with self._told():
            self._file.close()

    def read(self) -> list[dict[str, Any]]:
        """Return all whole records."""
        return read_records(self.path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Warn of what cannot be written, once: metrics are no reason to end a training."""
        try:
            yield
        except OSError as error:
            if not self._has_warned:
                log.warning("⚠ %s: metrics are not written (%s); training goes on", self.path, error.strerror)
            self._has_warned = True

    def _rewrite(self, records: list[dict[str, Any]]) -> None:
        """Have the file hold these records, and open it; what it cannot be rid of, the next attempt drops."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        with self._told():
            if not self.path.exists() or self.path.read_bytes() != text.encode():
                temporary = self.path.with_suffix(".tmp")
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return all whole records of a file, none if it does not exist; damaged lines are told of."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    records = []
    for line in lines:
        with suppress(ValueError):
            records.append(json.loads(line))
    if len(records) < len(lines):
        log.warning("⚠ %s: damaged in %d of %d lines, which are left out", path, len(lines) - len(records), len(lines))
    return records
