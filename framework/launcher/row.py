"""One run of a sweep, as the table, the CSV and the page show it."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.compat.submitit import is_own_line
from framework.errors import CheckpointError
from framework.launcher.jobs import Planned
from framework.launcher.names import values_of
from framework.records import opened
from framework.rundir.metrics import losses_by_node
from framework.rundir.run_status import RunState, RunStatus, read_run

_LOG_BYTES = 20_000
_MAX_REASON = 300


@dataclass(frozen=True)
class Row:
    """One run of the sweep."""

    name: str
    values: dict[str, str]  # what the command line sets
    state: RunState
    reason: str
    epoch: int
    best_loss: float
    best_losses: dict[str, float | None]
    seconds: float
    run_dir: Path

    @property
    def by_node(self) -> str:
        """The losses of several nodes, whose sum is `best_loss`."""
        return losses_by_node(self.best_losses)

    @classmethod
    def of(cls, p: Planned) -> "Row":
        """Return the row of a job that has ended."""
        status = read_run(p.job.run_dir)
        was_running = p.action == "monitor" and p.status.attempts > 0
        began = was_running or status.attempts > p.status.attempts
        job = p.submitted
        if job and job.state == "ended":
            if not began and status.state not in (RunState.FINISHED, RunState.FAILED):
                status.state = RunState.FAILED
                status.reason = f"{job.detail or 'ended'} before the run began"
            if status.state is RunState.LOST:
                status.reason = job.detail
        if status.state is RunState.FAILED and job:
            status.reason = _last_error(Path(job.log)) or status.reason
        return cls._with(p.job.run_dir, p.job.overrides, status)

    @classmethod
    def known(cls, job: Mapping[str, Any]) -> "Row":
        """Return the row of a job that `sweep.json` lists, of an earlier start of the sweep."""
        status = read_run(Path(job["run_dir"]))
        error = _last_error(Path(job["log"])) if status.state is RunState.FAILED and job["log"] else ""
        status.reason = error or status.reason
        return cls._with(Path(job["run_dir"]), job["overrides"], status)

    @classmethod
    def _with(cls, run_dir: Path, overrides: Sequence[str], status: RunStatus) -> "Row":
        return cls(
            name=run_dir.name,
            values=values_of(overrides),
            state=status.state,
            reason=status.reason,
            epoch=status.epoch or 0,
            best_loss=math.nan if status.best_loss is None else status.best_loss,
            best_losses=status.best_losses,
            seconds=status.seconds,
            run_dir=run_dir,
        )


def _last_error(log_path: Path) -> str:
    """Return the error that a job's log ends with; only its end is read, and only of a regular file."""
    with suppress(CheckpointError, OSError, ValueError), opened(log_path) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
        text = file.read(_LOG_BYTES).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not is_own_line(line)]
        marked = [line.lstrip("✗ ") for line in lines if line.startswith("✗")]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b|slurmstepd: error", line)]
        return (marked or errors or lines or [""])[-1][:_MAX_REASON]
    return ""
