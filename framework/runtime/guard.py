"""When to save and when to stop: polled once per step, at a cost of well under a microsecond."""

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from framework.runtime.budget import Budget, BudgetReader
from framework.runtime.children import leave_children, prepare_children
from framework.runtime.late_signals import Handler
from framework.runtime.policy import Policy, Save, Stopped, StopReason
from framework.runtime.signals import Signals
from framework.runtime.threads import repeat
from framework.runtime.timing import Recent, save_period

log = logging.getLogger(__name__)

_SLACK_SECONDS = 60.0  # for inexact scheduler clocks, early warnings and kills, and the requeue
_SLACK_FRACTION = 0.05  # of a short budget
_FIRST_SAVE_SECONDS = 60.0  # until the cost of a save is measured
_UNMEASURED_SAVE_SECONDS = 1.0
_LOOK_SECONDS = 5.0  # between evaluations of the measurements
_REREAD_SECONDS = 600.0
_ANSWER_SECONDS = 15.0  # for a scheduler to answer before the run stops
_CHANGE_SECONDS = 90.0  # LSF and PBS report the end to the minute
_WATCHDOG_SECONDS = 10.0
_TICK_SECONDS = 0.25
_NEVER = float("inf")


class Guard:
    """Monitor of signals and the wall clock while its context is open, in every phase of a run.

    SIGINT, SIGTERM, SIGHUP and SIGUSR2 request a stop, SIGUSR1 requests a save, SIGCONT is ignored. The
    training loop calls `poll()` between steps and saves by itself; other phases call `check()`, which
    raises `Stopped`. A second SIGINT or SIGTERM within the policy's window ends the process
    immediately, whether or not it has saved; in a scheduler's job, a second SIGTERM does not. If the main
    thread does not reach `poll()` or `check()` before the allocation ends, a background thread calls
    `on_stuck` with the reason and ends the process, resumable. `on_stuck` may take a few seconds; if it
    raises `SystemExit`, that sets the exit code.
    """

    def __init__(self, policy: Policy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_stuck: Callable[[StopReason], object] = lambda reason: None
        self._clock = clock
        self._signals = Signals(policy or Policy(), clock)
        self._closed = threading.Event()
        self._reader: BudgetReader | None = None
        self._end = _NEVER  # the end of the allocation on the guard's clock
        self._budget_seconds = _NEVER
        self._end_read = clock()
        self._steps = Recent(1000)
        self._epoch_ends = Recent(8)
        self._stalls = Recent(50)
        self._writes = Recent(50)
        self._num_polls = self._last_poll_of_epoch = 0
        self._drain_seconds = 0.0  # how much earlier the stop is decided if only complete epochs are started
        self._out_of_time = self._is_saving = False
        self._last = self._look_at = clock()
        self.configure(self.policy)

    @property
    def policy(self) -> Policy:
        """The current policy."""
        return self._signals.policy

    def configure(self, policy: Policy) -> None:
        """Replace the policy: signals are handled even before the configuration is read."""
        self._signals.policy = policy
        self._next_save = self._clock() + self._save_period()

    def limit(self, reader: BudgetReader) -> str:
        """Apply the reader's budget, which is read repeatedly while the context is open; return a line to log."""
        self._reader = reader
        budget = reader.read()
        self._set_end(budget)
        return reader.describe(budget, self.margin_seconds)

    @property
    def num_signals(self) -> int:
        """The number of signals received so far; they may have ended other processes too."""
        return self._signals.count

    @property
    def margin_seconds(self) -> float:
        """The time before the end at which to stop, in seconds, from the durations measured so far."""
        needed = max(self._steps.p99(), self._epoch_ends.p99()) + 1.5 * self._save_seconds()
        asked = self.policy.checkpoint_before_end
        if isinstance(asked, str):
            return needed + min(_SLACK_SECONDS, _SLACK_FRACTION * self._budget_seconds)
        return max(asked, needed)

    def poll(self) -> StopReason | Save | None:
        """Return the reason to stop now, `Save.NOW`, or None; to be called between any two steps."""
        now = self._clock()
        self._steps.add(now - self._last)
        self._last = now
        self._num_polls += 1
        signals = self._signals
        if now < self._look_at and signals.stop is None and not signals.save:
            return None
        return self._look(now)

    def check(self) -> None:
        """Raise `Stopped` if the run has to stop; for phases whose work is already on disk."""
        self._signals.save = False
        if reason := self._stop_reason(self._clock(), num_steps=0):
            raise Stopped(reason)

    def begin_epoch(self, num_steps: int) -> None:
        """Announce the number of remaining steps of the epoch, so that `drain: epoch` can stop at its end or start."""
        now = self._clock()
        if self._num_polls:
            self._epoch_ends.add(now - self._last)
        self._last = now
        if self.policy.drain == "epoch" and self._epoch_ends:
            self._drain_seconds = self._epoch_seconds(num_steps)
            self._out_of_time |= now + self._drain_seconds > self._end - self.margin_seconds
        self._last_poll_of_epoch = self._num_polls + num_steps
        if self._out_of_time or self._signals.stop:  # this is the boundary to stop at
            self._last_poll_of_epoch = self._num_polls
            self._look_at = now

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long a save blocks the training; the period until the next one starts when it ends."""
        began = self._clock()
        self._is_saving = True
        try:
            yield
        finally:
            self._is_saving = False
            self._last = self._clock()
            self._stalls.add(self._last - began)
            self._next_save = self._last + self._save_period()

    def learn_write(self, seconds: float) -> None:
        """Record how long it took until a save was durable, if it is written in the background."""
        self._writes.add(seconds)

    def exit_code(self, reason: StopReason) -> int:
        """Return the process's exit code after a stop."""
        return self.policy.exit_code_of(reason)

    def previous_handler(self, number: int) -> Handler:
        """Return the signal's handler from before the guard was opened, to be called once the run is saved."""
        return self._signals.previous.get(number)

    def __enter__(self) -> Self:
        self._closed.clear()
        self._signals.install()
        prepare_children()
        repeat(self._end_if_stuck, _TICK_SECONDS, self._closed)
        repeat(self._reread, _TICK_SECONDS, self._closed)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        leave_children()
        self._signals.restore()
        self._closed.set()

    def _look(self, now: float) -> StopReason | Save | None:
        if self._num_polls == 1:
            self._steps.clear()  # the time before the first step is not a step
        if reason := self._stop_reason(now, self._last_poll_of_epoch - self._num_polls + 1):
            return reason
        is_due = now >= self._next_save or self._signals.save
        if is_due:
            self._signals.save = False
            self._next_save = now + self._save_period()
        self._look_at = min(self._end - self.margin_seconds, self._next_save, now + _LOOK_SECONDS)
        return Save.NOW if is_due else None

    def _stop_reason(self, now: float, num_steps: int) -> StopReason | None:
        asked = self._signals.stop
        if asked and not self._can_finish_epoch(now, num_steps):
            return asked
        if self._out_of_time or now >= self._end - self.margin_seconds:
            return asked or StopReason.OUT_OF_TIME
        return None

    def _can_finish_epoch(self, now: float, num_steps: int) -> bool:
        """Return whether the rest of the epoch and a save fit into the remaining time, as measured."""
        if self.policy.drain != "epoch" or num_steps <= 0 or self._signals.hurry:
            return False
        left = min(self._end, self._signals.drain_time) - now
        return 1.5 * (self._epoch_seconds(num_steps) + self._save_seconds()) <= left

    def _epoch_seconds(self, num_steps: int) -> float:
        return num_steps * self._steps.mean() + self._epoch_ends.p99()

    def _save_seconds(self) -> float:
        return max(self._stalls.p99(), self._writes.p99()) or _UNMEASURED_SAVE_SECONDS

    def _save_period(self) -> float:
        every = self.policy.periodic_checkpoint_every
        if isinstance(every, str):
            return save_period(self._stalls.mean()) if self._stalls else _FIRST_SAVE_SECONDS
        return _NEVER if every is None else every

    def _set_end(self, budget: Budget | None) -> None:
        self._end_read = self._clock()
        if budget is None:
            return
        end = self._end_read + budget.end - time.time()
        moved = end - self._end
        if abs(moved) > _CHANGE_SECONDS and self._end != _NEVER:
            log.info("⏱ The allocation's end has moved by %+.0f min (%s)", moved / 60, budget.source)
        if moved < 0 or moved > _CHANGE_SECONDS:
            self._end, self._budget_seconds = end, budget.seconds

    def _reread(self) -> None:
        """Read the budget again: rarely, after a SIGTERM (the end may have moved), and before stopping because of it.

        Schedulers do not notify a job when its limit changes, and hundreds of jobs may query the same scheduler.
        """
        if self._reader is None:
            return
        now, read = self._clock(), self._end_read
        was_told = read < self._signals.term_time < _NEVER
        is_about_to_stop = read < self._end - self.margin_seconds - self._drain_seconds - _ANSWER_SECONDS <= now
        if was_told or is_about_to_stop or now - read > _REREAD_SECONDS:
            self._set_end(self._reader.read(fresh=True))

    def _end_if_stuck(self) -> None:
        """Exit the process shortly before it is killed, unless it is about to exit by itself."""
        of_budget = self._end - min(_WATCHDOG_SECONDS, self.margin_seconds / 2)
        of_sender = self._signals.kill_time - min(_WATCHDOG_SECONDS, self.policy.grace / 10)
        if self._is_saving or self._clock() < min(of_budget, of_sender):
            return
        text = "⚠ Out of time in a long call: exiting with the last committed checkpoint; the run can be resumed"
        os.write(2, f"\n{text}\n".encode())
        code: object = self.policy.exit_code
        try:
            self.on_stuck(self._signals.stop or StopReason.OUT_OF_TIME)
        except SystemExit as end:
            code = end.code
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code if isinstance(code, int) else self.policy.exit_code)
