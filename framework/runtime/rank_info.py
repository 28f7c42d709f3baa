"""The rank of this process among those that were started together to train one run."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from framework.runtime.schedulers.command import run_command

# (rank, number of processes, rank on this node), by launcher. A job script that runs Python without srun also has the
# number of the job's tasks in its environment, yet is one process: only in a step is SLURM_STEP_NUM_TASKS set.
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SUBMITIT = ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID")
_SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")

# Variables that distinguish a job, step or attempt from others on the same node, and the offset of its port.
_PORT_STEPS = {"SLURM_JOB_ID": 1, "SUBMITIT_LOCAL_JOB_ID": 1, "SLURM_STEP_ID": 1009, "SLURM_RESTART_COUNT": 3001}
_PORTS = range(20_000, 32_000)  # below the ephemeral ports


@dataclass(frozen=True)
class RankInfo:
    """One of the processes that were started together; `init_method` is as in `torch.distributed`."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    init_method: str = ""


def find_rank_info(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """Return the rank that torchrun, srun or submitit's local executor has assigned to this process."""
    for names in (_TORCHRUN, _SUBMITIT, _SRUN):
        rank, size, local_rank = (environment.get(name, "") for name in names)
        if rank.isdigit() and size.isdigit() and int(size) > 1:
            init_method = "env://" if names is _TORCHRUN else _init_method(environment, is_slurm=names is _SRUN)
            return RankInfo(int(rank), int(size), int(local_rank or 0), init_method)
    return RankInfo()


def _init_method(environment: Mapping[str, str], is_slurm: bool) -> str:
    """Return rank 0's address: its host, and a port that every rank derives from the job, step and attempt."""
    host = environment.get("MASTER_ADDR") or (_first_host(environment) if is_slurm else "127.0.0.1")
    numbers = {name: environment.get(name, "") for name in _PORT_STEPS}
    offset = sum(int(text) * _PORT_STEPS[name] for name, text in numbers.items() if text.isdigit())
    port = environment.get("MASTER_PORT") or _PORTS[offset % len(_PORTS)]
    return f"tcp://{host}:{port}"


def _first_host(environment: Mapping[str, str]) -> str:
    """Return the address of the step's first node, where rank 0 runs."""
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    match = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^\[,]*))?", nodes)  # node[003-007,12]-ib,other
    name = "".join(part or "" for part in match.groups()) if match else socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:  # a name that only Slurm knows
        shown = re.search(r"NodeAddr=(\S+)", run_command("scontrol", "show", "node", name).text)
        return shown[1] if shown else name
    return name
