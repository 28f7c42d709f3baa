"""Whether this process is an earlier attempt's job, started again by the scheduler or the launcher."""

import os
from collections.abc import Mapping
from typing import Any

from framework.runtime.job import job_id, start_number

REQUEUED = "FRAMEWORK_REQUEUED"  # set to 1 by whoever starts the same job again outside of Slurm


def is_requeued(last: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this is the job of the attempt `last`, restarted since."""
    if environment.get(REQUEUED) == "1":
        return True
    job = job_id(environment)
    is_same = job is not None and job == last.get("job_id")
    return is_same and start_number(environment) > last.get("start_number", 0)
