"""Slurm: variables of the job's environment since 23.02, `squeue` before that and for changes.

Source: the manual pages of sbatch and squeue. The variables are fixed at launch; the limit is not.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from framework.runtime.schedulers.reading import Reading, read, read_command


def ends(environment: Mapping[str, str], fresh: bool) -> Iterator[Reading]:
    """Yield SLURM_JOB_END_TIME in Unix seconds, then squeue's EndTime."""
    if "SLURM_JOB_END_TIME" in environment and not fresh:
        yield read("SLURM_JOB_END_TIME", environment["SLURM_JOB_END_TIME"], float)
    yield from _squeue(environment, "EndTime")


def starts(environment: Mapping[str, str]) -> Iterator[Reading]:
    """Yield SLURM_JOB_START_TIME in Unix seconds, then squeue's StartTime."""
    if "SLURM_JOB_START_TIME" in environment:
        yield read("SLURM_JOB_START_TIME", environment["SLURM_JOB_START_TIME"], float)
    yield from _squeue(environment, "StartTime")


def job_id(environment: Mapping[str, str]) -> str | None:
    """Return the id that names this task alone: the bare id of an array can mean all of its tasks."""
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def _squeue(environment: Mapping[str, str], field: str) -> Iterator[Reading]:
    if job := job_id(environment):
        yield read_command("squeue", ["squeue", "-h", "-j", job, "-O", field], _local_time)


def _local_time(text: str) -> float:
    """Read `2026-11-20T08:35:23` in local time; of several lines, as of a heterogeneous job, the first moment."""
    return min(datetime.strptime(line.strip(), "%Y-%m-%dT%H:%M:%S").timestamp() for line in text.splitlines())
