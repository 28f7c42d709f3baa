"""The scheduler's job that this process belongs to."""

import os
from collections.abc import Mapping

from framework.runtime.schedulers import batch_job

_known: dict[str, int] = {}  # a process sees one start of its job, and the command that tells it may be slow


def job_id(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the job's id as its scheduler writes it, or None outside of any job."""
    return batch_job(environment)[1] or environment.get("FLUX_JOB_ID")


def start_number(environment: Mapping[str, str] = os.environ) -> int:
    """Return a number that grows with each start of the same job: how the next attempt knows that it was requeued."""
    system, job = batch_job(environment)
    if system is None or job is None:
        return 0
    return system.start_number(environment)
