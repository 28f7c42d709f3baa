"""Finding the processes that were started together with this one."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from framework.runtime.guard import Guard
from framework.runtime.place import find_place
from framework.runtime.policy import Stopped
from framework.runtime.ranks import Ranks


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
