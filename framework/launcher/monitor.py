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
from framework.launcher.jobs import Executor, Planned
from framework.rundir.metrics import losses_by_node
from framework.rundir.run_status import RunState, RunStatus, read_run

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_FIRST_SECONDS, _MAX_SECONDS = 0.5, 15.0  # between polls: often at first, then less, to spare the scheduler
_MAX_ROWS = 30


class Interrupted(BaseException):
    """The launcher was told to stop by a signal."""


def monitor(planned: Sequence[Planned], executor: Executor) -> None:
    """Return when all submitted jobs have ended; if interrupted, end the process with a resumable exit code."""
    submitted = [p.submitted for p in planned if p.submitted]
    began = time.monotonic()
    view = _View(planned)
    try:
        with _interruptible(), view:
            while True:
                executor.refresh(submitted)
                view.show()
                if all(job.state == "ended" for job in submitted):
                    return
                waited = time.monotonic() - began
                time.sleep(min(_MAX_SECONDS, _FIRST_SECONDS + waited / 20))
    except (KeyboardInterrupt, Interrupted) as stop:
        message = executor.stop(submitted)
        print(f"\n⚠ Interrupted: {message}", file=sys.stderr)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else 99)


class _View:
    """A table on a terminal; elsewhere one line for each change."""

    def __init__(self, planned: Sequence[Planned]) -> None:
        self._planned = planned
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> None:
        if self._live:
            self._live.start()

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        """Show the present state of the jobs."""
        if self._live:
            rows = [(p, read_run(p.job.run_dir)) for p in self._planned]
            self._live.update(_table(rows), refresh=True)
            return
        for p in self._planned:
            has_ended = p.submitted is None or p.submitted.state == "ended"
            word = _word(p, read_run(p.job.run_dir) if has_ended else None)
            if self._shown.get(p.name) != word:
                job = f" (job {p.submitted.job_id})" if p.submitted and p.submitted.job_id else ""
                log.info("%s%s: %s", p.name, job, word)
                self._shown[p.name] = word


def _table(rows: Sequence[tuple[Planned, RunStatus]]) -> Table:
    counts: dict[str, int] = {}
    for p, status in rows:
        counts[_word(p, status)] = counts.get(_word(p, status), 0) + 1
    table = Table(title=" · ".join(f"{n} {word}" for word, n in sorted(counts.items())), title_justify="left")
    by_node = ["by node"] if any(losses_by_node(status.best_losses) for _, status in rows) else []
    for name in ("run", "job", "state", "epoch", "best loss", *by_node, "time"):
        table.add_column(name, justify="right" if name in ("epoch", "best loss", "time") else "left")
    # Where not all fit, the ones that are under way come first.
    order = sorted(rows, key=lambda row: row[0].submitted is None or row[0].submitted.state == "ended")
    for p, status in order[:_MAX_ROWS]:
        job_id = p.submitted.job_id if p.submitted else ""
        loss = f"{status.best_loss:.4f}" if status.best_loss is not None else ""
        time_taken = format_duration(status.seconds) if status.seconds else ""
        losses = [loss, losses_by_node(status.best_losses)] if by_node else [loss]
        table.add_row(Text(p.name), job_id, _word(p, status), str(status.epoch or ""), *losses, time_taken)
    if len(rows) > _MAX_ROWS:
        table.add_row(f"and {len(rows) - _MAX_ROWS} more")
    return table


def _word(p: Planned, status: RunStatus | None) -> str:
    """Return the state of the job in a word or two."""
    if (job := p.submitted) and job.state != "ended":
        return job.state if job.detail in ("", "RUNNING") else f"{job.state}, {job.detail}"
    assert status is not None
    never_began = status.state is RunState.WAITING and not status.is_held
    return RunState.FAILED if never_began else status.state


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the signals that stop a process raise `Interrupted`."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = {number: signal.signal(number, on_signal) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
