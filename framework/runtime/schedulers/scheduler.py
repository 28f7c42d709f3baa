"""What a scheduler can tell about the job that this process belongs to, and do with it: the base class of each."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from framework.environment_variables import JOB_SCRIPT
from framework.runtime.schedulers.command import CommandResult
from framework.runtime.schedulers.time_estimate import TimeEstimate


@dataclass(frozen=True)
class JobState:
    """Why a job's attempt ends, as far as its scheduler tells."""

    is_preempted: bool = False
    is_at_limit: bool = False  # of its time
    is_interactive: bool = False  # there is no job script that could start again
    is_requeued: bool = False  # by the scheduler, without being asked
    is_decided: bool = False  # cancelled or requeued already, whichever signal this process received first


class Scheduler(ABC):
    """One scheduler. Only `job_id` has to be written; what a subclass leaves out is not offered in its jobs.

    Outside of its jobs `job_id` is None and no times are given. Commands never wait long; what they cannot tell is
    left at its default. The last methods are called only where `can_requeue` is true.
    """

    can_requeue = False
    kill_seconds = 0.0  # after `requeue`, how long to wait for the kill without which the job is not requeued

    @abstractmethod
    def job_id(self, environment: Mapping[str, str]) -> str | None:
        """Return the id that names this job alone, also in a job array, or None outside of the scheduler's jobs."""

    def end_times(self, environment: Mapping[str, str], fresh: bool) -> Iterator[TimeEstimate]:
        """Yield what is known of the allocation's end, the most trusted first; a command runs only when it is next.

        With `fresh` what was fixed when the job started is left out: an administrator may have changed the limit since.
        """
        yield from ()

    def start_times(self, environment: Mapping[str, str]) -> Iterator[TimeEstimate]:
        """Yield what is known of the allocation's start, the most trusted first."""
        yield from ()

    def start_number(self, environment: Mapping[str, str]) -> int:
        """Return a number that grows with each start of the same job."""
        return 0

    def check_signal_delivery(self, environment: Mapping[str, str]) -> str:
        """Return what to change so that the job's signals reach this process, empty if they do."""
        return ""

    def state(self, job: str, environment: Mapping[str, str], exit_code: int) -> JobState:
        """Return what is known of the job now, if this process is about to end with `exit_code`."""
        raise NotImplementedError

    def requeue(self, job: str) -> CommandResult:
        """Put the job back into the queue with the scheduler's own command, which may end this process."""
        raise NotImplementedError

    def submit_successor(self, job: str, environment: Mapping[str, str]) -> CommandResult:
        """Submit the job's script again, to start when this job has ended; the result is the new job's id."""
        raise NotImplementedError

    def script_hint(self, exit_code: int) -> str:
        """Return what to write into a job script so that the job is requeued for the exit code alone."""
        raise NotImplementedError


def read_job_script(environment: Mapping[str, str]) -> CommandResult:
    """Return the job script's text; in PBS, $0 is the copy that was submitted, which can be read while the job runs."""
    if not (name := environment.get(JOB_SCRIPT)):
        problem = f"the path of its script is not known; in it, before Python, write: export {JOB_SCRIPT}=PATH"
        return CommandResult("", f"{problem} (in PBS: $0)")
    try:
        return CommandResult(Path(name).read_text())
    except (OSError, UnicodeDecodeError) as error:
        return CommandResult("", f"its script cannot be read ({JOB_SCRIPT}={name}: {error})")
