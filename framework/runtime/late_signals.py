"""Signals after a guard has closed: most processes are about to exit then, and their exit code is decided.

A script that continues with other work can be killed as before: a signal that arrives in the first seconds is
held back and delivered if the process still exists at their end; later ones are delivered immediately. While the
interpreter shuts down, which takes a second with torch, all signals are ignored.
"""

import _thread
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None

_HELD_SECONDS = 3.0
_GUARD_ONLY = {signal.SIGUSR1, signal.SIGUSR2}  # only meaningful to a guard


class LateSignalHandler:
    """Handler, after a guard has closed, of a signal that had its default handler before."""

    def __init__(self, before: Handler) -> None:
        self.before = before
        self._end = time.monotonic() + _HELD_SECONDS
        self._pid = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Hold the signal back, or let it do what it would have done without a guard."""
        if os.getpid() == self._pid:
            if number in _GUARD_ONLY:
                return
            if (left := self._end - time.monotonic()) > 0:
                _thread.start_new_thread(_send_later, (left, number))  # `threading` takes locks: unsafe in a handler
                return
        restore_handler(number, self.before)
        signal.raise_signal(number)


def restore_handler(number: int, handler: Handler) -> None:
    """Install a handler that `signal.getsignal` has returned."""
    signal.signal(number, signal.SIG_DFL if handler is None else handler)


def restore_handlers(previous: dict[int, Handler]) -> None:
    """Restore the previous handlers so that signals cannot disturb a process that is about to exit."""
    for number, handler in previous.items():
        is_default = handler in (signal.SIG_DFL, signal.default_int_handler, None)
        restore_handler(number, LateSignalHandler(handler) if is_default and number != signal.SIGCONT else handler)
    atexit.unregister(_shut_down)
    atexit.register(_shut_down, list(previous))  # the latest is called first


def _send_later(seconds: float, number: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(seconds)
    os.kill(os.getpid(), number)


def _shut_down(numbers: list[int]) -> None:
    """Ignore signals from now on, even after Python has stopped handling them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing and not all(child.daemon for child in multiprocessing.active_children()):
        numbers = [number for number in numbers if number in _GUARD_ONLY]  # Python may wait long for that child
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
