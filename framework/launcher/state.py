"""How far a run is, told from the files of its directory alone: from any machine, and without loading torch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.launcher.names import is_free, key_of, value_of
from framework.rundir.attempts import LOST, manifests, moment, read_attempts
from framework.rundir.jobs import EXIT_FILE, failed_since, read_json
from framework.rundir.metrics import read_progress
from framework.runtime.lease import read_lease


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
