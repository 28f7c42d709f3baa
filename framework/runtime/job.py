"""The scheduler's job that this process belongs to."""

import os
from collections.abc import Mapping

from framework.runtime.schedulers import batch_job, lsf


def job_id(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the job's id as its scheduler writes it, or None outside of any job."""
    others = environment.get("PBS_JOBID") or environment.get("FLUX_JOB_ID")
    return batch_job(environment)[1] or lsf.job_id(environment) or others


def start_number(environment: Mapping[str, str] = os.environ) -> int:
    """Return a number that grows with each start of the same job: how the next attempt knows that it was requeued."""
    system, _ = batch_job(environment)
    return system.start_number(environment) if system else 0
