"""The processes that train one run together. Knows nothing of torch: most runs are a single process."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from framework.runtime.policy import Save, StopReason


class Ranks:
    """One process alone; `framework.runtime.group.Group` is several.

    Rank 0 leads: it alone plans, reads, writes, tracks and asks for a requeue. The others wait for what it
    shares. Every method is called by all ranks, in the same order.
    """

    rank, size, local_rank = 0, 1, 0

    def agree(self, asked: StopReason | Save | None) -> StopReason | Save | None:
        """Return the most pressing of what the ranks' guards ask for at this boundary; for `Guard.poll()`'s answer."""
        return asked

    def share(self, value: Any = None) -> Any:
        """Return rank 0's value on all ranks."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks on rank 0, nothing elsewhere."""
        return [value]

    def sum(self, number: float) -> float:
        """Return the sum over the ranks, the same to the last bit on all of them."""
        return number

    def part(self, count: int) -> slice:
        """Return this rank's part of so many things."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def in_step(self) -> AbstractContextManager[None]:
        """Mark a block in which no rank waits for rank 0 to share what comes next."""
        return nullcontext()

    def reaching(self) -> AbstractContextManager[None]:
        """Have the block raise `RankLostError` where it cannot reach another rank."""
        return nullcontext()
