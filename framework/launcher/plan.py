"""Which jobs of a sweep are to be submitted: those that neither have finished, nor are under way, nor have failed."""

from collections.abc import Sequence
from dataclasses import dataclass

from framework.launcher.job import Job
from framework.launcher.names import is_free, values_of
from framework.launcher.ticket import Executor, Ticket, read_ticket
from framework.rundir.run_status import RunState, RunStatus, read_run


@dataclass
class Planned:
    """A job of the sweep and what is done about it: submit, follow (it is under way), or nothing but report it."""

    job: Job
    status: RunStatus  # before this sweep
    action: str = "report"
    ticket: Ticket | None = None

    @property
    def name(self) -> str:
        """The job's folder."""
        return self.job.run_dir.name


def plan_jobs(jobs: Sequence[Job], executor: Executor, kind: str, retry_failed: bool) -> list[Planned]:
    """Decide about each job by what its run directory says and, for jobs that were submitted before, the scheduler."""
    planned = [Planned(job, read_run(job.run_dir), ticket=read_ticket(job.run_dir, kind)) for job in jobs]
    executor.refresh([p.ticket for p in planned if p.ticket])
    for p in planned:
        p.action = _action(p, retry_failed)
    return planned


def _action(p: Planned, retry_failed: bool) -> str:
    if p.ticket and p.ticket.state != "ended":
        return "follow"
    p.ticket = None
    state = p.status.state
    if p.status.is_held:  # by hand, or by another kind of launcher
        return "report"
    if state is RunState.FINISHED and same_request(p.status.overrides, p.job.overrides):
        return "report"
    return "report" if state is RunState.FAILED and not retry_failed else "submit"


def same_request(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether two lists of overrides ask for the same: what only says how to run it does not count."""
    return _asked(first) == _asked(second)


def _asked(overrides: Sequence[str]) -> dict[str, str]:
    how = ("resume", "resume_allow", "overwrite", "trust", "runtime", "tracking", "device")
    asked = values_of(overrides).items()
    return {key: value for key, value in asked if not (is_free(key) and key.split(".")[0] in how)}
