"""Background threads, with all signals blocked so that the main thread receives them."""

import signal
import threading
from collections.abc import Callable


def repeat(do: Callable[[], None], every_seconds: float, closed: threading.Event) -> None:
    """Start a daemon thread that calls `do` every `every_seconds` until `closed` is set."""

    def loop() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not closed.wait(every_seconds):
            do()

    threading.Thread(target=loop, daemon=True, name=f"guard: {do.__name__}").start()
