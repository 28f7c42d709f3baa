"""Connection to the processes that were started together with this one."""

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
    """Connect to the processes that were started together with this one; all exit with rank 0's exit code.

    If the script has called `torch.distributed.init_process_group`, that process group is used regardless of
    the environment, and is not destroyed. Raises `ConfigError` if the processes cannot connect, or were started
    with different `command`s. If the `guard` requests a stop before they are connected, the process exits.
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
    """Return the size of the process group if the script has already initialized one, else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_world_size())
    return None


def _check(guard: Guard | None) -> None:
    """Exit the process if the guard requests a stop."""
    if guard:
        try:
            guard.check()
        except Stopped as stop:
            print(f"⚠ {stop.reason.word} while connecting to the other processes of this job", file=sys.stderr)
            sys.exit(guard.exit_code(stop.reason))
