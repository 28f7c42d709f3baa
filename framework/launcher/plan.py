"""Which jobs of a sweep are to be submitted: those that neither have finished, nor are under way, nor have failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from framework.launcher.job import Job
from framework.launcher.state import RunState, read_state, same_request
from framework.launcher.ticket import Executor, Ticket, read_ticket


@dataclass
class Planned:
    """A job of the sweep and what is done about it: submit, follow (it is under way), or nothing but report it."""

    job: Job
    state: RunState  # before this sweep
    action: str = "report"
    ticket: Ticket | None = None

    @property
    def name(self) -> str:
        """The job's folder."""
        return self.job.run_dir.name


def plan_jobs(jobs: Sequence[Job], executor: Executor, kind: str, retry_failed: bool) -> list[Planned]:
    """Decide about each job by what its run directory says and, for jobs that were submitted before, the scheduler."""
    planned = [Planned(job, read_state(job.run_dir), ticket=read_ticket(job.run_dir, kind)) for job in jobs]
    executor.refresh([p.ticket for p in planned if p.ticket])
    for p in planned:
        p.action = _action(p, retry_failed)
    return planned


def _action(p: Planned, retry_failed: bool) -> str:
    if p.ticket and p.ticket.state != "ended":
        return "follow"
    p.ticket = None
    status = p.state.status
    if status == "running":  # by hand, or by another kind of launcher
        return "report"
    if status == "finished" and same_request(p.state.overrides, p.job.overrides):
        return "report"
    return "report" if status == "failed" and not retry_failed else "submit"
