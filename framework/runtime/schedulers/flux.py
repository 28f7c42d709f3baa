"""Flux: `flux job timeleft` in seconds, and the start from `flux jobs`. Source: the manual of flux-job."""

import time
from collections.abc import Iterator, Mapping

from framework.runtime.schedulers.reading import Reading, read_command


def ends(environment: Mapping[str, str], fresh: bool) -> Iterator[Reading]:
    """Yield now and the time left."""
    if "FLUX_JOB_ID" in environment:
        yield read_command("flux job timeleft", ["flux", "job", "timeleft"], lambda text: time.time() + float(text))


def starts(environment: Mapping[str, str]) -> Iterator[Reading]:
    """Yield the moment at which the job began to run, in Unix seconds."""
    if job := environment.get("FLUX_JOB_ID"):
        yield read_command("flux jobs", ["flux", "jobs", "-n", "-o", "{t_run}", job], float)
