"""The processes that train one run together. Knows nothing of torch: most runs are a single process."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from framework.runtime.guard import Guard
from framework.runtime.place import find_place
from framework.runtime.policy import Save, Stopped, StopReason


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


@contextmanager
def connected(
    command: Sequence[str] = (), guard: Guard | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[Ranks]:
    """Find the processes that were started together with this one; at the end, the others learn rank 0's exit code.

    Where the script has called `torch.distributed.init_process_group`, that says who they are, whatever the
    environment says, and it is left as it was. Raises `ConfigError` where they cannot be found, or were not given
    the same `command`. If the `guard` has to stop before they are found, that ends the process.
    """
    place = find_place(environment)
    size = _size_of_script() or place.size
    if size == 1:
        yield Ranks()
        return
    # A warning for programmers, which each rank would print: that DDP has looked for unused weights and found none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from framework.runtime.group import Group  # loads torch

    make = Group.adopted if _size_of_script() else Group
    with make(place, lambda: _check(guard)) as group:
        group.check_same(list(command))
        yield group


def _size_of_script() -> int | None:
    """Return the number of processes that the script has connected itself, if it has."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_world_size())
    return None


def _check(guard: Guard | None) -> None:
    """End the process if the guard has to stop."""
    if guard:
        try:
            guard.check()
        except Stopped as stop:
            print(f"⚠ {stop.reason.word} while looking for the other processes of this job", file=sys.stderr)
            sys.exit(guard.exit_code(stop.reason))
