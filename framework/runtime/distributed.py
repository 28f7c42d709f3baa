"""The processes that train one run together. Knows nothing of torch: most runs are a single process."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from framework.runtime.policy import Save, StopReason


class DistributedContext:
    """One process alone; `framework.runtime.process_group.ProcessGroupContext` is several.

    Rank 0 alone plans, reads, writes, tracks and asks for a requeue. The other ranks wait for what it broadcasts.
    Every method is called by all ranks, in the same order.
    """

    rank, world_size, local_rank = 0, 1, 0

    def all_reduce_stop(self, asked: StopReason | Save | None) -> StopReason | Save | None:
        """Return the most urgent request of all ranks' guards at this step; `asked` is `Guard.poll()`'s answer."""
        return asked

    def broadcast_object(self, value: Any = None) -> Any:
        """Return rank 0's value on all ranks."""
        return value

    def gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks on rank 0, and an empty list elsewhere."""
        return [value]

    def all_reduce_sum(self, number: float) -> float:
        """Return the sum over the ranks, the same to the last bit on all of them."""
        return number

    def local_slice(self, count: int) -> slice:
        """Return this rank's share of `count` items."""
        return slice(self.rank * count // self.world_size, (self.rank + 1) * count // self.world_size)

    def training(self) -> AbstractContextManager[None]:
        """Mark a block in which no rank is waiting for rank 0 to broadcast."""
        return nullcontext()

    def detect_lost_ranks(self) -> AbstractContextManager[None]:
        """Raise `RankLostError` where the block cannot reach another rank."""
        return nullcontext()
