"""What a run may ask of its own job, and what it is told: one module for each scheduler that can start a job again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from framework.runtime.schedulers.reading import Answer

SCRIPT = "FRAMEWORK_JOB_SCRIPT"  # names the job script, which PBS and LSF do not give back; set by the script itself
SECONDS = 30.0  # a busy scheduler takes its time


@dataclass(frozen=True)
class Facts:
    """Why a job's attempt ends, as far as its scheduler tells."""

    is_preempted: bool = False
    is_at_limit: bool = False  # of its time
    is_interactive: bool = False  # there is no job script that could start again
    is_requeued: bool = False  # without being asked
    is_decided: bool = False  # cancelled or requeued already, whatever this process was told first


class BatchSystem(Protocol):
    """The contract of a module here. Commands never wait long; what they cannot tell is left at its default."""

    KILL_SECONDS: float  # after `requeue`, how long to wait for the kill without which there is no requeue

    def job_id(self, environment: Mapping[str, str]) -> str | None:
        """Return the id that names this job alone, or None outside of the scheduler's jobs."""
        ...

    def start_number(self, environment: Mapping[str, str]) -> int:
        """Return a number that grows with each start of the same job."""
        ...

    def look(self, job: str, environment: Mapping[str, str], exit_code: int) -> Facts:
        """Return what is known of the job now, if this process is about to end with `exit_code`."""
        ...

    def requeue(self, job: str) -> Answer:
        """Put the job back into the queue by the scheduler's own command, which may end this process."""
        ...

    def follow_up(self, job: str, environment: Mapping[str, str]) -> Answer:
        """Submit the job's script again, to start when this job has ended; the answer is the new job's id."""
        ...

    def in_script(self, exit_code: int) -> str:
        """Return what a job script needs that has the job started again for the exit code alone."""
        ...


def script_of(environment: Mapping[str, str]) -> Answer:
    """Return the job script's text; in PBS, $0 is the copy that was submitted, which can be read while the job runs."""
    if not (name := environment.get(SCRIPT)):
        return Answer("", f"its script is not known; in it, before Python, write: export {SCRIPT}=PATH (in PBS: $0)")
    try:
        return Answer(Path(name).read_text())
    except (OSError, UnicodeDecodeError) as error:
        return Answer("", f"its script cannot be read ({SCRIPT}={name}: {error})")
