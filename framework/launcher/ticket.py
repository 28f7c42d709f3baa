"""A submitted job as the launcher sees it, and what runs jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from framework.launcher.job import Job
from framework.rundir.job_records import JobRecord, read_job, write_job


@dataclass
class Ticket:
    """One submitted job. `state` is queued, running or ended; `detail` is the scheduler's word for it."""

    run_dir: Path
    job_id: str = ""
    log: str = ""
    state: str = "queued"
    detail: str = ""


class Executor(Protocol):
    """What runs jobs."""

    folder: Path  # where logs and pickled jobs lie

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Submit the jobs, in this order."""

    def refresh(self, tickets: Sequence[Ticket]) -> None:
        """Bring the tickets up to date."""

    def stop(self, tickets: Sequence[Ticket]) -> str:
        """Leave the jobs that have not ended, as the launcher is interrupted; return what to tell about them."""


def write_ticket(ticket: Ticket, kind: str, host: str = "") -> None:
    """Record the job with its run; `host` is where a local one runs."""
    write_job(ticket.run_dir, JobRecord(kind, ticket.job_id, ticket.log, host))


def read_ticket(run_dir: Path, kind: str) -> Ticket | None:
    """Return the job that was submitted last for the run, if it was by this kind of launcher."""
    job = read_job(run_dir)
    return Ticket(run_dir, job.job_id, job.log) if job and job.launcher == kind else None
