"""The attempts at a run, `attempts/NNN.json`: one record for each process, from its start to its end."""

import logging
import os
import re
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from framework.errors import CheckpointError, DamagedError, UnreadableError
from framework.files import list_directory
from framework.records import build, read_record, write_record
from framework.rundir.metric_lines import METRICS_FILE
from framework.rundir.saved_work import last_commit
from framework.rundir.timestamps import seconds_of, text_of

log = logging.getLogger(__name__)


_NAME = re.compile(r"(?!000)\d{3}|[1-9]\d{3,8}", re.ASCII)


class Outcome(StrEnum):
    """The ways in which an attempt can end."""

    FINISHED = "finished"
    CRASHED = "crashed"
    LOST = "lost"  # ended without recording it
    INTERRUPTED = "interrupted"  # this and the following were saved: the names of `framework.runtime.StopReason`
    TERMINATED = "terminated"
    OUT_OF_TIME = "out_of_time"
    REQUEUE = "requeue"


@dataclass
class AttemptRecord:
    """The record of one process; times are Unix seconds here and ISO 8601 in the file."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    command: list[str] = field(default_factory=lambda: [sys.executable, *sys.argv])
    overrides: list[str] = field(default_factory=list)
    config_dirs: list[str] = field(default_factory=list)  # the user's
    requeued: bool = False
    job_id: str | None = None
    start_number: int = 0  # how many times the scheduler had started the job before
    device: str | None = None
    num_processes: int = 1
    num_epochs: dict[str, int] = field(default_factory=dict)  # by node
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    code: dict[str, str] = field(default_factory=dict)  # digest of the user's code, by `_target_`
    config: dict[str, Any] | None = None  # the config of this attempt, in plain containers
    resume_diff: list[dict[str, Any]] = field(default_factory=list)
    start: float = field(default_factory=time.time)
    phases: dict[str, float] = field(default_factory=dict)  # start of each
    end: float | None = None
    stop_reason: Outcome | None = None
    lost_seconds: float = 0.0  # of work that must be repeated
    results_of: str | None = None  # the checkpoint from which samples and report were made

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the record in a file; raises `CheckpointError` if it cannot be read."""
        keys = [key.name for key in fields(cls)]
        content = read_record(path, of_version_02=[keys, [key for key in keys if key != "results_of"]])
        try:
            times: dict[str, Any] = {
                name: seconds_of(content[name]) for name in ("start", "end") if content.get(name) is not None
            }
            times["phases"] = {name: seconds_of(text) for name, text in dict(content.get("phases", {})).items()}
        except (ValueError, TypeError) as error:
            raise DamagedError(f"{path}: damaged ({error})") from error
        if "start" not in times:
            raise DamagedError(f"{path}: damaged (no start)")
        return build(cls, {**content, **times}, path)

    def content(self) -> dict[str, Any]:
        """Return the record as it is stored in its file."""
        content = asdict(self)
        content |= {"start": text_of(self.start), "end": None if self.end is None else text_of(self.end)}
        content["phases"] = {name: text_of(began) for name, began in self.phases.items()}
        return content

    def write(self, path: Path) -> None:
        """Write the record; raises `OSError`."""
        write_record(path, self.content())

    @property
    def phase(self) -> str:
        """The current or last phase."""
        return next(reversed(self.phases), "starting")

    @property
    def training_seconds(self) -> float:
        """The duration of training in seconds; 0 if training has not ended."""
        names = list(self.phases)
        if "training" not in names:
            return 0.0
        later = [self.phases[name] for name in names[names.index("training") + 1 :]]
        end = later[0] if later else self.end
        return 0.0 if end is None else max(end - self.phases["training"], 0.0)

    def close(self, run_dir: Path, outcome: Outcome, end: float) -> None:
        """Record the end of the attempt at `end`, in Unix seconds."""
        began = max(self.start, last_commit(run_dir) or 0.0)
        lost = 0.0 if outcome is Outcome.FINISHED else max(end - began, 0.0)
        self.end = end
        self.stop_reason = outcome
        self.lost_seconds = round(lost, 3)


class AttemptFile:
    """The record of the current attempt, written after every event."""

    def __init__(self, path: Path, record: AttemptRecord) -> None:
        self.path = path
        self.record = record
        self.number = int(path.stem)
        record.write(path)

    def begin(self, phase: str) -> None:
        """Record the start of a phase."""
        self.record.phases[phase] = time.time()
        self._write()

    def record_results(self, generation: str) -> None:
        """Record that samples and report were made from this checkpoint."""
        self.record.results_of = generation
        self._write()

    def end(self, outcome: Outcome) -> None:
        """Record the end of the attempt and its outcome."""
        self.record.close(self.path.parents[1], outcome, time.time())
        self._write()

    def _write(self) -> None:
        """Write the record; if that fails, say because the disk is full, log a warning."""
        try:
            self.record.write(self.path)
        except OSError as error:
            log.warning("⚠ %s: the attempt's progress is not recorded (%s)", self.path, error.strerror)


@dataclass(frozen=True)
class Attempts:
    """All attempts at a run: the readable records, oldest first, and the errors of the others."""

    records: list[AttemptRecord]
    numbers: list[int]  # of all record files
    problems: dict[int, CheckpointError]  # by number

    @property
    def last(self) -> AttemptRecord | None:
        """The newest readable record."""
        return self.records[-1] if self.records else None

    @property
    def problem_of_last(self) -> CheckpointError | None:
        """The error of the newest record, if it cannot be read."""
        return self.problems.get(self.numbers[-1]) if self.numbers else None


def read_attempts(run_dir: Path) -> Attempts:
    """Return the attempts at a run."""
    records = []
    numbers = []
    problems = {}
    for number, path in sorted(_paths(run_dir)):
        numbers.append(number)
        try:
            records.append(AttemptRecord.read(path))
        except FileNotFoundError:  # removed since it was listed
            numbers.pop()
        except CheckpointError as error:
            problems[number] = error
    return Attempts(records, numbers, problems)


def start_attempt(run_dir: Path, record: AttemptRecord, last_sign: float = 0.0) -> AttemptFile:
    """Record the start of an attempt, and the end of the previous one if it died; `last_sign` is its last heartbeat."""
    paths = sorted(_paths(run_dir))
    if paths:
        _close_lost(run_dir, paths[-1][1], last_sign)
    number = paths[-1][0] + 1 if paths else 1
    return AttemptFile(attempt_path(run_dir, number), record)


def attempt_path(run_dir: Path, number: int) -> Path:
    """Return the path of an attempt's record."""
    return run_dir / "attempts" / f"{number:03d}.json"


def last_sign_of(run_dir: Path, record: AttemptRecord, heartbeat: float) -> float:
    """Return the last time, in Unix seconds, at which an attempt was certainly alive, by heartbeat and file times."""
    times = [record.start, heartbeat, *record.phases.values(), last_commit(run_dir) or 0.0]
    with suppress(OSError):
        times.append((run_dir / METRICS_FILE).lstat().st_mtime)
    return max(times)


def _close_lost(run_dir: Path, path: Path, last_sign: float) -> None:
    """Record the end of an earlier attempt that could not do so itself: the last time at which it was alive."""
    try:
        record = AttemptRecord.read(path)
    except (CheckpointError, FileNotFoundError):  # reported by the code that needs the record
        return
    if record.end is None:
        record.close(run_dir, Outcome.LOST, last_sign_of(run_dir, record, last_sign))
        record.write(path)


def _paths(run_dir: Path) -> list[tuple[int, Path]]:
    """Return number and path of all attempts; raises `UnreadableError`."""
    try:
        names = list_directory(run_dir / "attempts")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableError.of(run_dir / "attempts", error) from error
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return [(int(stem), attempt_path(run_dir, int(stem))) for stem in stems if _NAME.fullmatch(stem)]
