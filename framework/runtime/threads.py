"""Threads beside the main one: they never receive the signals that are meant for it."""

import signal
import threading
from collections.abc import Callable


def repeat(do: Callable[[], None], every_seconds: float, closed: threading.Event) -> None:
    """Start a thread that calls `do` at intervals until `closed` is set; it does not keep the process alive."""

    def loop() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not closed.wait(every_seconds):
            do()

    threading.Thread(target=loop, daemon=True, name=f"guard: {do.__name__}").start()
