"""Connecting to the processes that were started together with this one."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from framework.compat.environment import quiet_ddp
from framework.runtime.distributed import DistributedContext
from framework.runtime.guard import Guard
from framework.runtime.policy import Stopped
from framework.runtime.rank_info import find_rank_info


@contextmanager
def connect_processes(
    command: Sequence[str] = (), guard: Guard | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[DistributedContext]:
    """Connect to the processes that were started together with this one; all end with rank 0's exit code.

    Where the script has called `torch.distributed.init_process_group`, that process group is used
    whatever the environment says, and is left as it is. Raises `ConfigError` where the processes cannot connect, or
    were not given the same `command`. If the `guard` has to stop before they are connected, the process ends.
    """
    rank_info = find_rank_info(environment)
    size = _size_of_script() or rank_info.world_size
    if size == 1:
        yield DistributedContext()
        return
    quiet_ddp()
    from framework.runtime.process_group import ProcessGroupContext  # loads torch

    make = ProcessGroupContext.from_initialized if _size_of_script() else ProcessGroupContext
    with make(rank_info, lambda: _check(guard)) as group:
        group.check_same_command(list(command))
        yield group


def _size_of_script() -> int | None:
    """Return the size of the process group that the script has initialized itself, if it has."""
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
            print(f"⚠ {stop.reason.word} while connecting to the other processes of this job", file=sys.stderr)
            sys.exit(guard.exit_code(stop.reason))
