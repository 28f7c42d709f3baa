"""Steps that an interruption must not fall between."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what asks this process and the commands that it starts to end, until the block is over.

    Commands inherit the mask; a signal may still reach this process in another thread of it, such as a BLAS library's.
    """
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: told.append(number)) for number in _STOPS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what has come meanwhile is in `told` now
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if told:
            signal.raise_signal(told[0])
