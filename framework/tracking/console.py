"""The progress display: a progress bar in a terminal, otherwise log lines at fixed intervals."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from framework.config.duration import format_duration

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 10.0


class Console:
    """Display of a phase's progress; `update` may be called often."""

    def __init__(self, terminal: RichConsole | None = None) -> None:
        self._rich = terminal or RichConsole()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._phase, self._total = "", 0
        self._started = self._last_line = 0.0
        self._first = 0

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[None]:
        """Show a progress bar from `done` to `total` for the duration of the block."""
        self._phase = name
        self._total = total
        self._first = done
        self._started = self._last_line = time.monotonic()
        if not self._rich.is_terminal:
            yield
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            console=self._rich,
        ) as self._progress:
            self._task = self._progress.add_task(name, total=total, completed=done, text="")
            yield
        self._progress = self._task = None

    def update(self, done: int, text: str, last: bool = False) -> None:
        """Show the number of completed units, and a text about them."""
        text = f"{done}/{self._total}  {text}  {self._time_left(done)}".rstrip()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, text=text)
        elif last or time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            log.info("%s %s", self._phase, text)

    def epoch(self, record: Mapping[str, float], best_loss: float, best_epoch: int, last: bool) -> None:
        """Show a training epoch."""
        losses = f"train {record['train_loss']:.4f}  val {record['val_loss']:.4f}"
        self.update(int(record["epoch"]), f"{losses}  best {best_loss:.4f} (epoch {best_epoch})", last)

    def _time_left(self, done: int) -> str:
        elapsed = time.monotonic() - self._started
        if done <= self._first or done >= self._total:
            return f"in {format_duration(elapsed)}"
        left = elapsed / (done - self._first) * (self._total - done)
        return f"≤ {format_duration(left)} left"
