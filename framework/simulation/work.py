"""Division of the remaining simulations into ranges of a sensible size."""

from collections import deque
from collections.abc import Iterable

from framework.simulation.shard import SHARD_BYTES, SHARD_SECONDS, Report, cut


class Work:
    """The ranges still to be simulated. Their sizes affect the division into files, never the simulations.

    The first ranges are small, because the duration of a simulation is unknown; later ones take about
    SHARD_SECONDS, and towards the end the rest is divided among the workers.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]], unit: int, row_bytes: int, num_workers: int) -> None:
        self._ranges = deque(ranges)
        self._unit = self._size = unit
        self._max_size = max(unit, SHARD_BYTES // row_bytes)
        self.num_workers = min(num_workers, sum(-(-(stop - start) // unit) for start, stop in self._ranges))

    def take(self) -> tuple[int, int] | None:
        """Return the next range, or None if there is none left."""
        if not self._ranges:
            return None
        start, stop = self._ranges.popleft()
        share = -(-(stop - start + sum(b - a for a, b in self._ranges)) // self.num_workers)
        end = cut(start, stop, min(self._size, share), self._unit)
        if end < stop:
            self._ranges.appendleft((end, stop))
        return start, end

    def learn(self, report: Report) -> None:
        """Adjust the size of the next ranges to the duration of a finished one."""
        num_rows = report.stop - report.start
        in_time = num_rows * SHARD_SECONDS / max(report.seconds, 1e-6)
        self._size = int(min(in_time, 4 * max(num_rows, self._unit), self._max_size))
