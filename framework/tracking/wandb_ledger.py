"""A record of the lines sent to W&B, whose API only returns their number."""

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from framework.errors import DamagedError
from framework.files import is_real_directory, make_directory, open_to_append, replace_file, write_all
from framework.records import parse_json, read_bytes, read_record, write_record


class Ledger:
    """The lines of `metrics.jsonl` in the order of W&B's history, stored in `<run_dir>/wandb/sent.jsonl`.

    An offline segment only counts if it was finished: the content of a killed one is unknown, so it is deleted and its
    lines are sent again. `settled.json` lists the finished segments. If these files are damaged, lines are sent again
    as well.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._path = directory, directory / "sent.jsonl"
        self._settled_path = directory / "settled.json"
        self._is_read = False
        self._lines: list[str] = []
        self._num_settled, self._segments = 0, list[str]()
        self._by_step: dict[tuple[Any, Any], int] = {}

    @property
    def num_lines(self) -> int:
        """The number of lines at W&B, which is the index of the next one."""
        return len(self._lines)

    def start(self, num_lines: int | None, segment: str) -> None:
        """Keep only the lines that W&B has: `num_lines`, or for an offline segment those of finished segments.

        Raises `OSError` or `UnreadableError`; a file that is temporarily unreadable is not overwritten.
        """
        make_directory(self._directory)
        if not is_real_directory(self._directory):
            raise NotADirectoryError(errno.ENOTDIR, f"{self._directory} is a link, expected a directory")
        if not self._is_read:
            self._read()
        if num_lines is None:
            num_lines = self._num_settled
            for path in self._directory.glob("offline-run-*"):
                if path.name not in (*self._segments, segment):
                    shutil.rmtree(path, ignore_errors=True)
        self._lines = (self._lines + [""] * num_lines)[:num_lines]  # lines sent without a record are sent again
        replace_file(self._path, "".join(f"{line}\n" for line in self._lines))
        self._by_step = {}
        for number, line in enumerate(self._lines):
            self._index(line, number)

    def has(self, line: str) -> bool:
        """Return whether W&B has exactly this line."""
        number = self._by_step.get(_key(line))
        return number is not None and self._lines[number] == line

    def stale(self, line: str) -> int | None:
        """Return the index of W&B's line for the same node and step if it differs."""
        return None if self.has(line) else self._by_step.get(_key(line))

    def add(self, line: str) -> None:
        """Record that the next line was sent."""
        self._index(line, len(self._lines))
        self._lines.append(line)
        descriptor = open_to_append(self._path)
        try:
            write_all(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def mark_sent(self, segment: str) -> None:
        """Record that all lines of the segment have arrived."""
        self._segments = [*self._segments, segment]
        self._num_settled = len(self._lines)
        write_record(self._settled_path, {"num_lines": self.num_lines, "segments": self._segments})

    def _read(self) -> None:
        try:
            self._lines = [
                _validated(line) for line in read_bytes(self._path).decode(errors="replace").split("\n")[:-1]
            ]
            settled = read_record(self._settled_path)
            self._num_settled, self._segments = settled["num_lines"], settled["segments"]
        except FileNotFoundError:
            pass
        except DamagedError as error:
            print(f"⚠ W&B: {error}; its lines are sent again", file=sys.stderr, flush=True)
        self._is_read = True

    def _index(self, line: str, number: int) -> None:
        if line:
            self._by_step[_key(line)] = number


def _validated(line: str) -> str:
    """Return the line, or an empty string if it is damaged."""
    try:
        _key(line)
        return line
    except (DamagedError, LookupError, TypeError):
        return ""


def _key(line: str) -> tuple[Any, Any]:
    row = parse_json(Path("sent.jsonl"), line.encode())
    node, step = row["node"], row["step"]
    hash((node, step))
    return node, step
