"""How far a run is, told from the files of its directory alone: from any machine, and without loading torch."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.attempt import LOST, manifests, moment, read_attempts, write_atomically
from framework.errors import ResumeRefusedError
from framework.launcher.names import is_free, key_of, value_of
from framework.progress import read_progress
from framework.runtime.lease import read_lease

JOB_FILE = "job.json"  # the job that was submitted last for the run
EXIT_FILE = "exit.json"  # how the last job's process ended


@dataclass(frozen=True)
class RunState:
    """What the files say. `status` is new, running, finished, failed or stopped; stopped ones can go on."""

    status: str
    reason: str = ""  # the last attempt's, or why it failed
    num_attempts: int = 0
    overrides: tuple[str, ...] = ()  # of the last attempt
    epoch: int = 0
    best_loss: float = float("nan")  # the sum over the nodes, once each has one
    best_losses: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0  # that attempts have taken


def read_state(run_dir: Path) -> RunState:
    """Return the state of the run in `run_dir`."""
    attempts = read_attempts(run_dir)
    holding = read_lease(run_dir / "lease")
    is_held = holding is not None and holding.is_alive(time.time())
    progress = read_progress(run_dir, attempts)
    return RunState(
        *_status(attempts, is_held, read_json(run_dir / EXIT_FILE)),
        num_attempts=len(attempts),
        overrides=tuple(attempts[-1].get("overrides", ())) if attempts else (),
        epoch=progress.epoch or 0,
        best_loss=float("nan") if progress.best_loss is None else progress.best_loss,
        best_losses=progress.best_losses,
        seconds=sum(map(_seconds, attempts)),
    )


def holds_work(run_dir: Path) -> bool:
    """Tell whether a checkpoint or simulations are there to go on from."""
    found = manifests(run_dir), (run_dir / "simulations").glob("*.npy")
    return any(any(paths) for paths in found)


def same_request(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether two lists of overrides ask for the same: what only says how to run it does not count."""
    return _asked(first) == _asked(second)


def record_exit(run_dir: Path, code: object, is_failure: bool) -> None:
    """Record how a job's process ended: there are errors before an attempt begins, and after it has ended."""
    attempts = read_attempts(run_dir)
    if code == ResumeRefusedError.exit_code and attempts and attempts[-1]["stop_reason"] == "finished":
        return  # the run is what it was
    facts = {"code": code, "is_failure": is_failure, "num_attempts": len(attempts)}
    write_json(run_dir / EXIT_FILE, facts)


def failed_since(last_exit: Any, num_attempts: int) -> bool:
    """Tell whether a job's process failed after the last of its attempts had ended, or before the first began."""
    return isinstance(last_exit, dict) and bool(last_exit["is_failure"]) and last_exit["num_attempts"] == num_attempts


def write_json(path: Path, value: Any) -> None:
    """Write a small file so that readers see the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, indent=1))


def read_json(path: Path) -> Any:
    """Return what the file holds, None if it cannot be read."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _status(attempts: Sequence[dict[str, Any]], is_held: bool, last_exit: Any) -> tuple[str, str]:
    if is_held:
        return "running", ""
    if failed_since(last_exit, len(attempts)):
        return "failed", f"exit code {last_exit['code']}"
    if not attempts:
        return "new", ""
    reason = attempts[-1]["stop_reason"]
    if reason is None:
        return "stopped", LOST
    if reason in ("finished", "crashed"):
        return {"finished": "finished", "crashed": "failed"}[reason], ""
    return "stopped", reason


def _seconds(attempt: dict[str, Any]) -> float:
    return (moment(attempt["end"]) if attempt["end"] else time.time()) - moment(attempt["start"])


def _asked(overrides: Sequence[str]) -> dict[str, str]:
    how = ("resume", "resume_allow", "overwrite", "runtime", "tracking", "device")
    asked = {key_of(override): value_of(override) for override in overrides}
    return {key: value for key, value in asked.items() if not (is_free(key) and key.split(".")[0] in how)}
