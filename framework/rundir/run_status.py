"""The status of runs, read from the files in their directories, without torch and without changing anything."""

import dataclasses
import errno
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from framework.files import is_real_directory, list_directory
from framework.rundir.attempts import AttemptRecord, Attempts, Outcome, last_sign_of, read_attempts
from framework.rundir.job_records import JOB_FILE, read_exit, read_job
from framework.rundir.metrics import read_progress
from framework.rundir.saved_work import last_checkpoint
from framework.runtime.lease import LeaseState, is_held, read_lease


class RunState(StrEnum):
    """The current phase of a run, or how it ended."""

    WAITING = "waiting"  # not started yet
    SIMULATING = "simulating"
    TRAINING = "training"
    SAMPLING = "sampling"
    STOPPED = "stopped"  # saved and stopped early, can be resumed
    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"  # its process ended without recording it; can be resumed


_PHASES = {  # of an attempt
    "starting": RunState.SIMULATING,
    "simulating": RunState.SIMULATING,
    "training": RunState.TRAINING,
    "sampling and reporting": RunState.SAMPLING,
}
_ENDS = {Outcome.FINISHED: RunState.FINISHED, Outcome.CRASHED: RunState.FAILED, Outcome.LOST: RunState.LOST}


@dataclass
class RunStatus:
    """The status of one run; unknown values are None."""

    run_dir: str
    state: RunState = RunState.WAITING
    reason: str = ""  # why it stopped or failed, if known
    is_held: bool = False  # a process is working on it
    node: str | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    best_loss: float | None = None  # sum over the nodes, once each has one
    best_losses: dict[str, float | None] = field(default_factory=dict)
    checkpoint_age_seconds: float | None = None
    attempts: int = 0
    overrides: list[str] = field(default_factory=list)  # of the last attempt
    seconds: float = 0.0  # duration of all attempts
    trained_seconds: float = 0.0
    lost_seconds: float = 0.0
    job_id: str | None = None
    host: str | None = None
    problems: list[str] = field(default_factory=list)


def read_runs(directories: Iterable[Path]) -> list[RunStatus]:
    """Return the status of every run in or below the directories, sorted by path."""
    paths = sorted({run_dir for directory in directories for run_dir in _find(directory)})
    with ThreadPoolExecutor(8) as executor:  # reading a network file system is mostly waiting
        return list(executor.map(read_run, paths))


def read_run(run_dir: Path) -> RunStatus:
    """Return the status of one run; damaged files are reported in its `problems` and otherwise ignored."""
    status = RunStatus(str(run_dir))
    try:
        _read_run(run_dir, status)
    except Exception as error:  # a problem in one run's directory must not hide the other runs
        status.state = RunState.FAILED
        status.problems.append(f"{run_dir}: cannot be read ({type(error).__name__}: {' '.join(str(error).split())})")
    return status


def _read_run(run_dir: Path, status: RunStatus) -> None:
    now = time.time()
    holding = read_lease(run_dir / "lease")
    status.is_held = is_held(run_dir / "lease", holding)
    attempts = read_attempts(run_dir)
    status.attempts = len(attempts.numbers)
    status.problems += map(str, attempts.problems.values())
    if attempts.last:
        _describe_attempts(status, run_dir, attempts, attempts.last, holding, now)
    elif attempts.numbers:
        status.state = RunState.FAILED
    job = read_job(run_dir)
    last_exit = read_exit(run_dir)
    if not status.is_held and last_exit and last_exit.is_failure and last_exit.num_attempts == status.attempts:
        status.state = RunState.FAILED
        status.reason = f"exit code {last_exit.code}"
        status.problems.append(f"{run_dir}: its job failed; its output is in {run_dir.parent / 'jobs'}")
    if status.job_id is None and job:
        status.job_id = job.job_id  # of a waiting job
    progress = read_progress(run_dir, attempts)
    status.node = progress.node
    status.epoch = progress.epoch
    status.best_loss = progress.best_loss
    status.best_losses = progress.best_losses
    status.problems += progress.problems
    if attempts.last and status.node:
        status.num_epochs = attempts.last.num_epochs.get(status.node)
    if (saved := last_checkpoint(run_dir)) is not None:
        status.checkpoint_age_seconds = max(now - saved, 0.0)


def _describe_attempts(
    status: RunStatus, run_dir: Path, attempts: Attempts, last: AttemptRecord, holding: LeaseState | None, now: float
) -> None:
    status.state, status.reason = _state(attempts, last, status.is_held)
    status.job_id = last.job_id
    status.host = last.host
    status.overrides = last.overrides
    records = list(attempts.records)
    if last.end is None:  # treat it as ending now, or at the last time at which it was alive
        records[-1] = dataclasses.replace(last)
        if status.is_held:
            records[-1].close(run_dir, Outcome.FINISHED, now)  # nothing is lost yet
        else:
            heartbeat = holding.last_sign if holding else 0.0
            records[-1].close(run_dir, Outcome.LOST, last_sign_of(run_dir, last, heartbeat))
    status.seconds = sum(max((record.end or record.start) - record.start, 0.0) for record in records)
    status.trained_seconds = sum(record.training_seconds for record in records)
    status.lost_seconds = sum(record.lost_seconds for record in records)


def _state(attempts: Attempts, last: AttemptRecord, is_held: bool) -> tuple[RunState, str]:
    """Return the state of a run with attempts, and the reason for it."""
    if attempts.problem_of_last and not is_held:
        return RunState.STOPPED, "its last attempt cannot be read"
    if last.end is None and is_held:
        return _PHASES.get(last.phase, RunState.SIMULATING), ""
    if is_held:
        return RunState.WAITING, ""
    if last.end is None or last.stop_reason is None:
        return RunState.LOST, ""
    if last.stop_reason in _ENDS:
        return _ENDS[last.stop_reason], ""
    return RunState.STOPPED, last.stop_reason.value


def _find(directory: Path) -> Iterator[Path]:
    """Yield the runs in or below a directory; an unreadable directory is yielded too, so that its error is reported."""
    left = [directory]
    while left:
        path = left.pop()
        try:
            if path is not directory and not is_real_directory(path):
                continue
            names = list_directory(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                yield path
            continue
        if {"run.json", "attempts", JOB_FILE} & {*names}:
            yield path  # runs are never nested
        else:
            left += [path / name for name in names if not name.startswith(".")]
