"""Metrics as one JSON object per line, in `<run_dir>/metrics.jsonl`."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class JsonlTracker:
    """Appends each record and flushes it; a half-written last line of a killed attempt is dropped."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "metrics.jsonl"
        self._has_warned = False
        self._rewrite(self.read())
        self._file = self.path.open("a", encoding="utf-8")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record; on a full disk it is kept, and written with a later one."""
        with self._told():
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def cut_back(self, node: str, step: int) -> None:
        """Drop the node's records after `step`."""
        self._file.close()
        self._rewrite([r for r in self.read() if r["node"] != node or r["step"] <= step])
        self._file = self.path.open("a", encoding="utf-8")

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
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        temporary.replace(self.path)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return all whole records of a file, none if it does not exist."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
