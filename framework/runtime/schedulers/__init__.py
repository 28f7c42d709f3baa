"""What each scheduler says about the allocation's end and start; one small file for each.

A scheduler is a module with two generators of readings, the most trusted first:
`ends(environment, fresh)` and `starts(environment)`. Outside of its jobs they yield nothing.
With `fresh` what was fixed at the job's launch is left out, since an administrator may have
changed the limit since. Commands run only when their reading is asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from framework.runtime.schedulers import flux, lsf, lsf_job, pbs, pbs_job, slurm, slurm_job
from framework.runtime.schedulers.batch import BatchSystem
from framework.runtime.schedulers.reading import Reading


class Scheduler(Protocol):
    """The contract of a module here."""

    def ends(self, environment: Mapping[str, str], fresh: bool) -> Iterator[Reading]:
        """Yield what is said of the allocation's end."""
        ...

    def starts(self, environment: Mapping[str, str]) -> Iterator[Reading]:
        """Yield what is said of the allocation's start."""
        ...


SCHEDULERS: tuple[Scheduler, ...] = (slurm, pbs, lsf, flux)
BATCH_SYSTEMS: tuple[BatchSystem, ...] = (slurm_job, pbs_job, lsf_job)


def batch_job(environment: Mapping[str, str]) -> tuple[BatchSystem, str] | tuple[None, None]:
    """Return whose job this process is of and the job's id, where another attempt can be asked for."""
    jobs = ((system, system.job_id(environment)) for system in BATCH_SYSTEMS)
    return next(((system, job) for system, job in jobs if job), (None, None))


__all__ = ["SCHEDULERS", "BatchSystem", "Reading", "Scheduler", "batch_job"]
