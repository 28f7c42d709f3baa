"""Waiting for the jobs of a sweep, with a live table of them, or a line for each change where there is no terminal."""

import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from framework.config.duration import format_duration
from framework.launcher.plan import Planned
from framework.launcher.ticket import Executor
from framework.rundir.metrics import losses_by_node
from framework.rundir.run_status import RunState, RunStatus, read_run

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_FIRST_SECONDS, _MAX_SECONDS = 0.5, 15.0  # between looks: often at first, then less so, to spare the scheduler
_MAX_ROWS = 30


class Interrupted(BaseException):
    """The launcher is told to end."""


def follow(planned: Sequence[Planned], executor: Executor) -> None:
    """Return when all jobs that are under way have ended; interrupted, end the process resumably."""
    under_way = [p for p in planned if p.ticket is not None]
    tickets = [p.ticket for p in under_way if p.ticket]
    began = time.monotonic()
    view = _View(planned)
    try:
        with _interruptible(), view:
            while True:
                executor.refresh(tickets)
                view.show()
                if all(ticket.state == "ended" for ticket in tickets):
                    return
                waited = time.monotonic() - began
                time.sleep(min(_MAX_SECONDS, _FIRST_SECONDS + waited / 20))
    except (KeyboardInterrupt, Interrupted) as stop:
        what = executor.stop(tickets)
        print(f"\n⚠ Interrupted: {what}", file=sys.stderr)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else 99)


class _View:
    """The table on a terminal; elsewhere the lines."""

    def __init__(self, planned: Sequence[Planned]) -> None:
        self._planned = planned
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> None:
        if self._live:
            self._live.start()

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        """Show how the jobs are now."""
        if self._live:
            rows = [(p, read_run(p.job.run_dir)) for p in self._planned]
            self._live.update(_table(rows), refresh=True)
            return
        for p in self._planned:
            word = _word(p, read_run(p.job.run_dir) if p.ticket is None or p.ticket.state == "ended" else None)
            if self._said.get(p.name) != word:
                log.info("%s%s: %s", p.name, f" (job {p.ticket.job_id})" if p.ticket and p.ticket.job_id else "", word)
                self._said[p.name] = word


def _table(rows: Sequence[tuple[Planned, RunStatus]]) -> Table:
    counts: dict[str, int] = {}
    for p, status in rows:
        counts[_word(p, status)] = counts.get(_word(p, status), 0) + 1
    table = Table(title=" · ".join(f"{n} {word}" for word, n in sorted(counts.items())), title_justify="left")
    by_node = ["by node"] if any(losses_by_node(status.best_losses) for _, status in rows) else []
    for name in ("run", "job", "state", "epoch", "best loss", *by_node, "time"):
        table.add_column(name, justify="right" if name in ("epoch", "best loss", "time") else "left")
    # The ones that are under way are what to look at, where not all fit.
    order = sorted(rows, key=lambda row: row[0].ticket is None or row[0].ticket.state == "ended")
    for p, status in order[:_MAX_ROWS]:
        job_id = p.ticket.job_id if p.ticket else ""
        loss = f"{status.best_loss:.4f}" if status.best_loss is not None else ""
        time_taken = format_duration(status.seconds) if status.seconds else ""
        losses = [loss, losses_by_node(status.best_losses)] if by_node else [loss]
        table.add_row(Text(p.name), job_id, _word(p, status), str(status.epoch or ""), *losses, time_taken)
    if len(rows) > _MAX_ROWS:
        table.add_row(f"and {len(rows) - _MAX_ROWS} more")
    return table


def _word(p: Planned, status: RunStatus | None) -> str:
    """Return one word for how the job is."""
    if p.ticket and p.ticket.state != "ended":
        return p.ticket.state if p.ticket.detail in ("", "RUNNING") else f"{p.ticket.state}, {p.ticket.detail}"
    assert status is not None
    never_began = status.state is RunState.WAITING and not status.is_held
    return RunState.FAILED if never_began else status.state


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the signals that ask a process to end raise `Interrupted`."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = {number: signal.signal(number, on_signal) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
