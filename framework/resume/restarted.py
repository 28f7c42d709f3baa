"""Detection of an earlier attempt's job that was restarted by the scheduler or the launcher."""

import os
from collections.abc import Mapping
from pathlib import Path

from framework.environment_variables import REQUEUED
from framework.rundir.attempts import Attempts
from framework.runtime.lease import read_lease
from framework.runtime.schedulers import job_id, start_number


def is_requeued(run_dir: Path, attempts: Attempts, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is the restarted job of the last attempt."""
    if not attempts.numbers:
        return False
    if environment.get(REQUEUED) == "1":
        return True
    last_job, last_start = _last_job(run_dir, attempts)
    return is_restarted(last_job, last_start, environment)


def is_restarted(last_job: str | None, last_start: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is an attempt's job, restarted since."""
    job = job_id(environment)
    return job is not None and job == last_job and start_number(environment) > last_start


def _last_job(run_dir: Path, attempts: Attempts) -> tuple[str | None, int]:
    """Return job id and start number of the last attempt, from its lease if its record is damaged."""
    if attempts.problem_of_last:
        holding = read_lease(run_dir / "lease")
        if holding and holding.owner:
            return holding.owner.job_id, holding.owner.start_number
    return (attempts.last.job_id, attempts.last.start_number) if attempts.last else (None, 0)
