"""Signals become flags; nothing else happens in a handler, but for the second one that ends the process."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from framework.runtime.late_signals import Handler, LateSignalHandler, end_quietly
from framework.runtime.policy import Policy, StopReason
from framework.runtime.schedulers import job_id

_REASONS = {
    signal.SIGINT: StopReason.INTERRUPTED,
    signal.SIGTERM: StopReason.TERMINATED,
    signal.SIGUSR2: StopReason.REQUEUE,
    signal.SIGHUP: StopReason.TERMINATED,  # the terminal is gone, or the connection to it
}
_DEMANDS = {signal.SIGINT, signal.SIGTERM}  # two of them within the window are an order
_ECHO_SECONDS = 0.05  # `timeout` and forwarding shells deliver one request twice, faster than any person


class Signals:
    """The flags, and the handlers while they are installed; `install` needs the main thread."""

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self.stop: StopReason | None = None
        self.stop_time = self.term_time = float("inf")  # of the first request to stop, of the first SIGTERM
        self.hurry = False  # asked again, after the window of the hard exit
        self.save = False
        self.count = 0  # of all that have come
        self.previous: dict[int, Handler] = {}  # what was installed before: for after the save, and put back
        self._clock = clock
        self._pid = os.getpid()
        self._is_in_job = job_id() is not None
        self._last: tuple[int, float] = (0, float("-inf"))

    def install(self) -> None:
        """Take over the signals of this process."""
        self._pid = os.getpid()
        for number in _REASONS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._take_over(number, self._on_stop)
        self._take_over(signal.SIGUSR1, self._on_save)
        self._take_over(signal.SIGCONT, _on_continue)  # not SIG_IGN, which programs started meanwhile would inherit

    def restore(self) -> None:
        """Put back what was installed before."""
        end_quietly(self.previous)
        self.previous = {}

    def _take_over(self, number: int, handler: Handler) -> None:
        before = signal.signal(number, handler)
        self.previous[number] = (
            before.before if isinstance(before, LateSignalHandler) else before
        )  # of a guard that has closed

    @property
    def kill_time(self) -> float:
        """The moment at which the sender of SIGTERM kills."""
        return self.term_time + self.policy.grace

    @property
    def drain_time(self) -> float:
        """The moment until which the rest of an epoch may take; a person at a terminal has time."""
        warned = self.stop_time + self.policy.grace if self.stop is StopReason.REQUEUE else float("inf")
        return min(warned, self.kill_time)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return self._in_child(number)
        self.count += 1
        now, (last, last_time) = self._clock(), self._last
        if number == last and now - last_time < self._echo_seconds(number):
            return
        if {number, last} <= _DEMANDS and now - last_time < self.policy.second_signal_window:
            _exit_at_once(self.policy.exit_code_of(_REASONS[signal.Signals(number)]))
        self._last = (number, now)
        if number == signal.SIGTERM:
            self.term_time = min(self.term_time, now)
        self.hurry = self.stop is not None
        if self.stop is None:
            self.stop, self.stop_time = _REASONS[signal.Signals(number)], now

    def _echo_seconds(self, number: int) -> float:
        """Return for how long the same signal again is one request: Slurm and srun both send SIGTERM at limits."""
        is_from_scheduler = self._is_in_job and number == signal.SIGTERM
        return max(_ECHO_SECONDS, self.policy.second_signal_window) if is_from_scheduler else _ECHO_SECONDS

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self.count += 1
            self.save = True

    def _in_child(self, number: int) -> None:
        """Leave it to the parent; only SIGTERM ends a forked child, which is how Python's pools end theirs."""
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _on_continue(number: int, frame: FrameType | None) -> None:
    """Do nothing: some schedulers send SIGCONT before SIGTERM."""


def _exit_at_once(code: int) -> None:
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""
    os.write(2, show_cursor + "\n⚠ Second signal: exit at once; the last committed checkpoint is intact\n".encode())
    os._exit(code)
