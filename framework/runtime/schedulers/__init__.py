"""The schedulers that are known, and the job that this process belongs to.

A new one is a file here with a subclass of `Scheduler`, and an entry in `SCHEDULERS`.
"""

import os
from collections.abc import Mapping

from framework.runtime.schedulers.flux import Flux
from framework.runtime.schedulers.lsf import Lsf
from framework.runtime.schedulers.pbs import Pbs
from framework.runtime.schedulers.scheduler import Scheduler
from framework.runtime.schedulers.slurm import Slurm

SCHEDULERS: tuple[Scheduler, ...] = (
    Slurm(),
    Pbs(),
    Lsf(),
    Flux(),
)


def find_job(environment: Mapping[str, str] = os.environ) -> tuple[Scheduler, str] | tuple[None, None]:
    """Return the scheduler whose job this is and the job's id; of nested jobs, that of the first in the list."""
    for scheduler in SCHEDULERS:
        if job := scheduler.job_id(environment):
            return scheduler, job
    return None, None


def job_id(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the job's id as its scheduler writes it, or None outside of any job."""
    return find_job(environment)[1]


def start_number(environment: Mapping[str, str] = os.environ) -> int:
    """Return a number that grows with each start of the same job: how the next attempt knows that it was requeued."""
    scheduler, _ = find_job(environment)
    return scheduler.start_number(environment) if scheduler else 0


def check_signal_delivery(environment: Mapping[str, str] = os.environ) -> str:
    """Return what to change in the job script so that the job's signals reach this process, empty if they do."""
    scheduler, _ = find_job(environment)
    return scheduler.check_signal_delivery(environment) if scheduler else ""


__all__ = ["SCHEDULERS", "Scheduler", "check_signal_delivery", "find_job", "job_id", "start_number"]
