"""The processes that train one run together. Does not import torch, since most runs are a single process."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from framework.runtime.policy import Save, StopReason


class DistributedContext:
    """A single process; `framework.runtime.process_group.ProcessGroupContext` is the class for several.

    Only rank 0 plans, reads, writes, tracks and requests a requeue. The other ranks wait for what it broadcasts.
    All ranks must call every method, in the same order.
    """

    rank = 0
    world_size = 1
    local_rank = 0

    def all_reduce_stop(self, asked: StopReason | Save | None) -> StopReason | Save | None:
        """Return the most urgent request of all ranks' guards at this step; `asked` is this rank's `Guard.poll()`."""
        return asked

    def broadcast_object(self, value: Any = None) -> Any:
        """Return rank 0's value on all ranks."""
        return value

    def gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks on rank 0, and an empty list elsewhere."""
        return [value]

    def all_reduce_sum(self, number: float) -> float:
        """Return the sum over the ranks, bitwise identical on all of them."""
        return number

    def local_slice(self, count: int) -> slice:
        """Return this rank's share of `count` items."""
        return slice(self.rank * count // self.world_size, (self.rank + 1) * count // self.world_size)

    def training(self) -> AbstractContextManager[None]:
        """Mark a block during which no rank waits for a broadcast from rank 0."""
        return nullcontext()

    def detect_lost_ranks(self) -> AbstractContextManager[None]:
        """Raise `RankLostError` if the block cannot reach another rank."""
        return nullcontext()
