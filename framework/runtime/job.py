"""The scheduler's job that this process belongs to."""

import os
from collections.abc import Mapping

from framework.runtime.schedulers import lsf, slurm


def job_id(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the job's id as its scheduler writes it, or None outside of any job."""
    others = environment.get("PBS_JOBID") or environment.get("FLUX_JOB_ID")
    return slurm.job_id(environment) or lsf.job_id(environment) or others


def restart_count(environment: Mapping[str, str] = os.environ) -> int:
    """Return how often the job was requeued, where the scheduler tells it (Slurm)."""
    text = environment.get("SLURM_RESTART_COUNT", "")
    return int(text) if text.isdigit() else 0
