"""Signal handlers that only set flags, except for the second signal, which ends the process."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from framework.runtime.late_signals import Handler, LateSignalHandler, restore_handlers
from framework.runtime.policy import Policy, StopReason
from framework.runtime.schedulers import job_id

_REASONS = {
    signal.SIGINT: StopReason.INTERRUPTED,
    signal.SIGTERM: StopReason.TERMINATED,
    signal.SIGUSR2: StopReason.REQUEUE,
    signal.SIGHUP: StopReason.TERMINATED,  # the terminal was closed, or the connection to it was lost
}
_FORCEFUL = {signal.SIGINT, signal.SIGTERM}  # two of them within the window end the process immediately
_ECHO_SECONDS = 0.05  # `timeout` and forwarding shells deliver one request twice, faster than a person could


class Signals:
    """The flags and their signal handlers; `install` must be called in the main thread."""

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self.stop: StopReason | None = None
        self.stop_time = self.term_time = float("inf")  # of the first stop request, of the first SIGTERM
        self.hurry = False  # a stop was requested again, after the window in which that would end the process
        self.save = False
        self.count = 0  # signals received
        self.previous: dict[int, Handler] = {}  # handlers from before: called after the save, then restored
        self._clock = clock
        self._pid = os.getpid()
        self._is_in_job = job_id() is not None
        self._last: tuple[int, float] = (0, float("-inf"))

    def install(self) -> None:
        """Install the signal handlers of this process."""
        self._pid = os.getpid()
        for number in _REASONS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._set_handler(number, self._on_stop)
            self._set_handler(signal.SIGUSR1, self._on_save)
            self._set_handler(signal.SIGCONT, _on_continue)  # not SIG_IGN, which child processes would inherit

    def restore(self) -> None:
        """Restore the previous handlers."""
        restore_handlers(self.previous)
        self.previous = {}

    def _set_handler(self, number: int, handler: Handler) -> None:
        before = signal.signal(number, handler)
        if isinstance(before, LateSignalHandler):  # left by a guard that has closed
            before = before.before
        self.previous[number] = before

    @property
    def kill_time(self) -> float:
        """When the sender of SIGTERM will send SIGKILL."""
        return self.term_time + self.policy.grace

    @property
    def drain_time(self) -> float:
        """The latest time at which the rest of an epoch must end; there is none after Ctrl+C."""
        warned = self.stop_time + self.policy.grace if self.stop is StopReason.REQUEUE else float("inf")
        return min(warned, self.kill_time)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return self._in_child(number)
        self.count += 1
        now, (last, last_time) = self._clock(), self._last
        if number == last and now - last_time < self._echo_seconds(number):
            return
        if {number, last} <= _FORCEFUL and now - last_time < self.policy.second_signal_window:
            _exit_at_once(self.policy.exit_code_of(_REASONS[signal.Signals(number)]))
        self._last = (number, now)
        if number == signal.SIGTERM:
            self.term_time = min(self.term_time, now)
        self.hurry = self.stop is not None
        if self.stop is None:
            self.stop, self.stop_time = _REASONS[signal.Signals(number)], now

    def _echo_seconds(self, number: int) -> float:
        """Return how long repeats of a signal count as one request: at a limit, Slurm and srun both send SIGTERM."""
        is_from_scheduler = self._is_in_job and number == signal.SIGTERM
        return max(_ECHO_SECONDS, self.policy.second_signal_window) if is_from_scheduler else _ECHO_SECONDS

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self.count += 1
            self.save = True

    def _in_child(self, number: int) -> None:
        """Leave the signal to the parent; only SIGTERM ends a forked child, as Python's pools rely on it."""
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _on_continue(number: int, frame: FrameType | None) -> None:
    """Do nothing: some schedulers send SIGCONT before SIGTERM."""


def _exit_at_once(code: int) -> None:
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""
    text = "\n⚠ Second signal: exiting immediately; the last committed checkpoint is intact\n"
    os.write(2, show_cursor + text.encode())
    os._exit(code)
