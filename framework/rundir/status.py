"""Where runs stand, read from the files of their directories; knows nothing of torch and changes nothing."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.rundir.attempts import attempt_paths, ending, last_checkpoint, last_sign_of, moment, read_attempt
from framework.rundir.jobs import EXIT_FILE, JOB_FILE, failed_since, read_json
from framework.rundir.metrics import read_progress
from framework.runtime.lease import Holding, read_lease

STATES = ("waiting", "simulating", "training", "sampling", "stopped-resumable", "finished", "failed", "lost")

_PHASES = {"starting": "simulating", "sampling and reporting": "sampling"}  # the others are states themselves
_ENDS = {"finished": "finished", "crashed": "failed", "lost": "lost"}  # any other end has saved


@dataclass
class RunStatus:
    """One run; what is not known is None."""

    run_dir: str
    state: str
    node: str | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    best_loss: float | None = None  # the sum over the nodes, once each has one
    best_losses: dict[str, float | None] = field(default_factory=dict)
    checkpoint_age_seconds: float | None = None
    attempts: int = 0
    trained_seconds: float = 0.0
    lost_seconds: float = 0.0
    job_id: str | None = None
    host: str | None = None
    problems: list[str] = field(default_factory=list)


def read_runs(directories: Iterable[Path]) -> list[RunStatus]:
    """Return the status of every run in or below the directories, by path."""
    paths = sorted({run_dir for directory in directories for run_dir in _find(directory)})
    with ThreadPoolExecutor(8) as executor:  # on a network file system, reading is waiting
        return list(executor.map(read_run, paths))


def read_run(run_dir: Path) -> RunStatus:
    """Return the status of one run; damaged files are named in its `problems` and otherwise left out."""
    try:
        return _read_run(run_dir)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # one run must not hide the others
        return RunStatus(str(run_dir), "failed", problems=[f"{run_dir}: cannot be read ({error})"])


def _read_run(run_dir: Path) -> RunStatus:
    now = time.time()
    holding = read_lease(run_dir / "lease")
    is_held = holding is not None and holding.is_alive(now)
    paths = attempt_paths(run_dir)
    read = [(path, read_attempt(path)) for path in paths]
    status = RunStatus(str(run_dir), "waiting", attempts=len(paths))
    status.problems = [f"{path}: damaged" for path, facts in read if facts is None]
    attempts = [facts for _, facts in read if facts is not None]
    if attempts:
        last = attempts[-1]
        status.state = _state(last, is_held)
        status.job_id, status.host = last.get("job_id"), last["host"]
        if last["end"] is None:
            attempts[-1] = last | _end_until_now(run_dir, last, holding, is_held, now)
        status.lost_seconds = sum(facts.get("lost_seconds", 0.0) for facts in attempts)
        status.trained_seconds = sum(map(_trained_seconds, attempts))
    elif paths:
        status.state = "failed"
    if not is_held and failed_since(read_json(run_dir / EXIT_FILE), len(attempts)):
        status.state = "failed"
        status.problems.append(f"{run_dir}: its job failed, see what it printed in {run_dir.parent / 'jobs'}")
    if status.job_id is None:
        status.job_id = (read_json(run_dir / JOB_FILE) or {}).get("job_id")  # of one that waits
    progress = read_progress(run_dir, attempts)
    status.node, status.epoch, status.problems = progress.node, progress.epoch, status.problems + progress.problems
    status.best_loss, status.best_losses = progress.best_loss, progress.best_losses
    status.num_epochs = attempts[-1]["num_epochs"].get(status.node) if status.node else None
    if (saved := last_checkpoint(run_dir)) is not None:
        status.checkpoint_age_seconds = max(now - saved, 0.0)
    return status


def _find(directory: Path) -> Iterator[Path]:
    for root, names, files in os.walk(directory):
        if "run.json" in files or "attempts" in names or JOB_FILE in files:
            names.clear()  # runs do not lie within each other
            yield Path(root)
        else:
            names[:] = [name for name in names if not name.startswith(".")]


def _state(last: Mapping[str, Any], is_held: bool) -> str:
    if last["end"] is not None:
        return "waiting" if is_held else _ENDS.get(last["stop_reason"], "stopped-resumable")
    if not is_held:
        return "lost"
    phase = next(reversed(last.get("phases", {})), "starting")
    return _PHASES.get(phase, phase)


def _end_until_now(
    run_dir: Path, facts: Mapping[str, Any], holding: Holding | None, is_held: bool, now: float
) -> dict[str, Any]:
    """Return what would be recorded if the attempt that has not ended did so now, or did so with its last sign."""
    if is_held:
        return ending(run_dir, facts, "finished", now)  # nothing is lost yet
    return ending(run_dir, facts, "lost", last_sign_of(run_dir, facts, holding.last_sign if holding else 0.0))


def _trained_seconds(facts: Mapping[str, Any]) -> float:
    """Return how long the attempt was training."""
    phases: dict[str, str] = facts.get("phases", {})
    if "training" not in phases:
        return 0.0
    later = list(phases.values())[list(phases).index("training") + 1 :]
    return max(moment((later or [facts["end"]])[0]) - moment(phases["training"]), 0.0)
