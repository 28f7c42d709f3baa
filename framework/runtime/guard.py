"""When to save and when to stop: asked once per step, answered in well under a microsecond."""

import enum
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class StopReason(enum.Enum):
    """Why an attempt ended before its work was done, with the words and exit code for it."""

    INTERRUPTED = ("Interrupted", 130)
    TERMINATED = ("Terminated", 99)
    OUT_OF_TIME = ("Out of time", 99)

    def __init__(self, word: str, exit_code: int) -> None:
        self.word = word
        self.exit_code = exit_code


class Guard:
    """Watches signals and the clock while its context is open; nothing is ever saved in a handler.

    SIGINT and SIGTERM ask for a stop at the next `poll()`. The handlers that were there before
    are put back with the first signal, so a second one acts as if there were no guard.
    """

    def __init__(
        self,
        budget_seconds: float | None = None,
        margin_seconds: float = 0.0,
        save_every_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._deadline = float("inf") if budget_seconds is None else clock() + max(budget_seconds - margin_seconds, 0.0)
        self._save_every = float("inf") if save_every_seconds is None else save_every_seconds
        self._next_save = clock() + self._save_every
        self._signal: StopReason | None = None
        self._previous: dict[int, signal.Handlers | Callable | int | None] = {}

    def poll(self) -> StopReason | None:
        """Return why to stop now, or None."""
        if self._signal is not None:
            return self._signal
        return StopReason.OUT_OF_TIME if self._clock() >= self._deadline else None

    def save_is_due(self) -> bool:
        """Tell whether the periodic save is due, and start the next period if so."""
        now = self._clock()
        if now < self._next_save:
            return False
        self._next_save = now + self._save_every
        return True

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore_handlers()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = StopReason.INTERRUPTED if number == signal.SIGINT else StopReason.TERMINATED
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
