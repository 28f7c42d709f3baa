"""What came of a sweep: the table, the best run, `sweep.csv` and `sweep.html`."""

import csv
import io
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from framework.config.duration import format_duration
from framework.errors import CheckpointError
from framework.files import replace_file
from framework.launcher.names import values_of
from framework.launcher.plan import Planned
from framework.records import opened
from framework.rundir.metrics import losses_by_node
from framework.rundir.status import RunState, RunStatus, read_run

log = logging.getLogger(__name__)

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
        was_running = p.action == "follow" and p.status.attempts > 0
        began = was_running or status.attempts > p.status.attempts
        if p.ticket and p.ticket.state == "ended":
            if not began and status.state not in (RunState.FINISHED, RunState.FAILED):
                status.state, status.reason = RunState.FAILED, f"{p.ticket.detail or 'ended'} before the run began"
            if status.state is RunState.LOST:
                status.reason = p.ticket.detail
        if status.state is RunState.FAILED and p.ticket:
            status.reason = _last_words(Path(p.ticket.log)) or status.reason
        return cls._with(p.job.run_dir, p.job.overrides, status)

    @classmethod
    def known(cls, job: Mapping[str, Any]) -> "Row":
        """Return the row of a job that `sweep.json` lists, of an earlier start of the sweep."""
        status = read_run(Path(job["run_dir"]))
        words = _last_words(Path(job["log"])) if status.state is RunState.FAILED and job["log"] else ""
        status.reason = words or status.reason
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


def write_summary(directory: Path, rows: Sequence[Row]) -> None:
    """Print the table and the best run; write the CSV and the HTML."""
    from framework.launcher.report import write_report  # matplotlib takes a second to load

    rows = sorted(rows, key=lambda row: (math.isnan(row.best_loss), row.best_loss, row.name))
    keys = varied_keys(rows)
    Console().print(_table(rows, keys))
    if best := best_run(rows):
        log.info("best run: %s (validation loss %.4f)", best.run_dir, best.best_loss)
    _write_csv(directory / "sweep.csv", rows)
    log.info("summary:  %s", write_report(directory / "sweep.html", directory.name, rows, keys))


def best_run(rows: Sequence[Row]) -> Row | None:
    """Return the finished run with the lowest loss."""
    finished = [row for row in rows if row.state is RunState.FINISHED and not math.isnan(row.best_loss)]
    return min(finished, key=lambda row: row.best_loss, default=None)


def varied_keys(rows: Sequence[Row]) -> list[str]:
    """Return the keys whose values differ between the runs."""
    keys = sorted({key for row in rows for key in row.values})
    return [key for key in keys if len({row.values.get(key) for row in rows}) > 1]


def _table(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    table = Table(title=f"{len(rows)} runs", title_justify="left")
    by_node = ["by node"] if any(row.by_node for row in rows) else []
    for name in [*(keys or ["run"]), "state", "epochs", "best loss", *by_node, "time"]:
        table.add_column(name, justify="right" if name in ("epochs", "best loss", "time") else "left")
    for row in rows:
        loss = "" if math.isnan(row.best_loss) else f"{row.best_loss:.4f}"
        cells = [Text(row.values.get(key, "")) for key in keys] or [Text(row.name)]  # not markup: values have brackets
        losses = [loss, row.by_node] if by_node else [loss]
        table.add_row(*cells, row.state, str(row.epoch), *losses, format_duration(row.seconds))
    return table


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    keys = sorted({key for row in rows for key in row.values})
    nodes = list(dict.fromkeys(node for row in rows if row.by_node for node in row.best_losses))
    losses = ["best_loss", *(f"best_loss.{node}" for node in nodes)]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["run", *keys, "state", "reason", "epochs", *losses, "seconds", "run_dir"])
    for row in rows:
        values = [row.values.get(key, "") for key in keys]
        numbers = [row.epoch, row.best_loss, *(row.best_losses.get(node) for node in nodes), round(row.seconds, 1)]
        writer.writerow([row.name, *values, row.state, row.reason, *numbers, row.run_dir])
    replace_file(path, file.getvalue())


def _last_words(log_path: Path) -> str:
    """Return the error that a job's log ends with; only its end is read, and only of a regular file."""
    with suppress(CheckpointError, OSError, ValueError), opened(log_path) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
        text = file.read(_LOG_BYTES).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("submitit ")]
        marked = [line.lstrip("✗ ") for line in lines if line.startswith("✗")]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b|slurmstepd: error", line)]
        return (marked or errors or lines or [""])[-1][:_MAX_REASON]
    return ""
