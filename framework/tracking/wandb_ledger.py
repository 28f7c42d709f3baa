"""What W&B has been sent, kept beside it: its history answers only for how many lines it has."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

from framework.rundir.attempts import write_atomically


class Ledger:
    """The lines of `metrics.jsonl` by their number in W&B's history, in `<run_dir>/wandb/sent.jsonl`.

    An offline segment counts once it was finished: what a killed one holds nobody knows, so it is deleted
    and its lines are sent again. `settled.json` names those that were finished.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._path = directory, directory / "sent.jsonl"
        self._settled_path = directory / "settled.json"
        directory.mkdir(exist_ok=True)
        self._lines = self._path.read_text(encoding="utf-8").split("\n")[:-1] if self._path.exists() else []
        settled = {}
        with suppress(OSError, ValueError):
            settled = json.loads(self._settled_path.read_text(encoding="utf-8"))
        self._num_settled, self._segments = settled.get("num_lines", 0), settled.get("segments", [])
        self._by_step: dict[tuple[str, int], int] = {}

    @property
    def num_lines(self) -> int:
        """The number of lines that W&B has, which is the number of the next one."""
        return len(self._lines)

    def start(self, num_lines: int | None, segment: str) -> None:
        """Keep the lines that W&B has: `num_lines`, or for an offline segment what the ones before it hold."""
        if num_lines is None:
            num_lines = self._num_settled
            for path in self._directory.glob("offline-run-*"):
                if path.name not in (*self._segments, segment):
                    shutil.rmtree(path, ignore_errors=True)
        self._lines = (self._lines + [""] * num_lines)[:num_lines]  # what was sent without a trace is sent again
        write_atomically(self._path, "".join(f"{line}\n" for line in self._lines))
        self._by_step = {}
        for number, line in enumerate(self._lines):
            self._index(line, number)

    def has(self, line: str) -> bool:
        """Tell whether W&B has exactly this."""
        number = self._by_step.get(_key(line))
        return number is not None and self._lines[number] == line

    def stale(self, line: str) -> int | None:
        """Return the number of what W&B has for the same node and step, if that is something else."""
        return None if self.has(line) else self._by_step.get(_key(line))

    def add(self, line: str) -> None:
        """Record that the next line was sent."""
        self._index(line, len(self._lines))
        self._lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def settle(self, segment: str) -> None:
        """Record that all lines have arrived."""
        self._segments = [*self._segments, segment]
        self._num_settled = len(self._lines)
        write_atomically(self._settled_path, json.dumps({"num_lines": self.num_lines, "segments": self._segments}))

    def _index(self, line: str, number: int) -> None:
        if line:
            self._by_step[_key(line)] = number


def _key(line: str) -> tuple[str, int]:
    row = json.loads(line)
    return row["node"], row["step"]
