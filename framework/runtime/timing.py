"""Measured durations, and the save period that follows from them."""

import math
from collections import deque

_MEAN_SECONDS_TO_FAILURE = 86400.0
_MAX_OVERHEAD = 0.01
_MIN_PERIOD_SECONDS = 30.0


class Recent:
    """The most recent durations of one kind of event, in seconds."""

    def __init__(self, size: int) -> None:
        self._seconds: deque[float] = deque(maxlen=size)
        self.add = self._seconds.append  # called once per step
        self.clear = self._seconds.clear

    def __bool__(self) -> bool:
        return bool(self._seconds)

    def p99(self, default: float = 0.0) -> float:
        """Return the 99th percentile; the maximum if there are fewer than 100 values."""
        ordered = sorted(self._seconds)
        return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else default

    def mean(self, default: float = 0.0) -> float:
        """Return the mean."""
        values = list(self._seconds)
        return sum(values) / len(values) if values else default


def save_period(stall_seconds: float) -> float:
    """Return the time between periodic saves that each block the training for `stall_seconds`.

    Young's sqrt(2 C M) (Commun. ACM 17, 1974; Daly, Future Gener. Comput. Syst. 22, 2006) for a
    failure a day, but at most 1 % of the time is spent on saving.
    """
    optimum = math.sqrt(2 * stall_seconds * _MEAN_SECONDS_TO_FAILURE)
    return max(optimum, stall_seconds / _MAX_OVERHEAD, _MIN_PERIOD_SECONDS)
