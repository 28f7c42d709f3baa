"""Flux: `flux job timeleft` in seconds, and the start from `flux jobs`. Source: the manual of flux-job."""

import time
from collections.abc import Iterator, Mapping

from framework.runtime.schedulers.scheduler import Scheduler
from framework.runtime.schedulers.time_estimate import TimeEstimate


class Flux(Scheduler):
    """Only the budget is read; its jobs are not requeued."""

    def job_id(self, environment: Mapping[str, str]) -> str | None:
        """Return the id of the job, or None outside of any."""
        return environment.get("FLUX_JOB_ID")

    def end_times(self, environment: Mapping[str, str], fresh: bool) -> Iterator[TimeEstimate]:
        """Yield now and the time left."""
        if self.job_id(environment):
            command = ["flux", "job", "timeleft"]
            yield TimeEstimate.from_command("flux job timeleft", command, lambda text: time.time() + float(text))

    def start_times(self, environment: Mapping[str, str]) -> Iterator[TimeEstimate]:
        """Yield the moment at which the job began to run, in Unix seconds."""
        if job := self.job_id(environment):
            yield TimeEstimate.from_command("flux jobs", ["flux", "jobs", "-n", "-o", "{t_run}", job], float)
