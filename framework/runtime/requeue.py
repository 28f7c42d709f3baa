"""Another attempt for a job that ran out of time or was preempted, asked for once everything is saved.

SIGTERM is sent before a preemption, at the time limit and by `scancel`; only after the last is no other attempt asked
for. How schedulers differ stands in `schedulers/`, one file for each.
"""

import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from framework.environment_variables import REQUEUE_FILE
from framework.errors import CheckpointError, StuckError
from framework.files import open_to_append, replace_file, retry
from framework.records import read_bytes
from framework.runtime.late_signals import Handler
from framework.runtime.policy import StopReason
from framework.runtime.schedulers import Scheduler, find_job
from framework.runtime.schedulers.scheduler import JobState

log = logging.getLogger(__name__)

_MAX_STUCK = 2  # attempts in a row without progress


@dataclass
class Requeuer:
    """Follows `runtime.requeue` in a scheduler's job, once; does nothing elsewhere.

    `record_path` is a file kept between attempts: how many in a row made no progress. `launcher` is the handler of
    SIGUSR2 that was installed before the guard's: submitit's requeues, and keeps its own records.
    """

    mode: str
    record_path: Path
    launcher: Handler = None
    exit_code: int = 99
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _has_been_called: bool = False

    def after(self, reason: StopReason, has_progressed: bool) -> None:
        """Ask for another attempt if the stop calls for one; `has_progressed` if this one has saved anything new.

        After two attempts without progress the job is not requeued, unless it was preempted: raises `StuckError`.
        A launcher may end the process. Of two threads the second waits for the first, and does nothing.
        """
        with self._lock:
            if not self._has_been_called:
                self._has_been_called = True
                self._after(reason, has_progressed)

    def _after(self, reason: StopReason, has_progressed: bool) -> None:
        scheduler, job = find_job(self.environment)
        if scheduler and not scheduler.can_requeue:
            scheduler, job = None, None
        if not self._may_ask(reason, job):
            return
        state = scheduler.state(job, self.environment, self.exit_code) if scheduler and job else JobState()
        is_cancelled = reason is StopReason.TERMINATED and not (state.is_preempted or state.is_at_limit)
        if is_cancelled or state.is_decided:
            return
        if not state.is_preempted:
            self._count(has_progressed)
        if callable(self.launcher) and self.mode == "auto" and self._is_left_to(self.launcher):
            return
        file = self.environment.get(REQUEUE_FILE)
        if state.is_requeued:
            log.warning("↻ The scheduler requeues job %s by itself; the run resumes automatically", job)
        elif file and self.mode in ("auto", "exit_code") and _is_created(Path(file)):
            log.warning("↻ The job script requeues the job; the run resumes automatically")
        elif state.is_interactive:
            log.warning("⚠ An interactive allocation cannot be requeued: resume in another one, with +resume=true")
        elif scheduler and job and not self._is_requeued(scheduler, job):
            hint = scheduler.script_hint(self.exit_code)
            log.warning("⚠ Exit code %d is for the job script, which needs %s", self.exit_code, hint)

    def _may_ask(self, reason: StopReason, job: str | None) -> bool:
        """Tell whether this process is the one to ask, in a job that can start again, for a stop that calls for it."""
        # A local job that is started again is in the same allocation.
        gains_no_time = reason is StopReason.OUT_OF_TIME and self.environment.get("SUBMITIT_EXECUTOR") == "local"
        return (
            self.mode != "never"
            and not gains_no_time
            and reason is not StopReason.INTERRUPTED
            and self.environment.get("SLURM_PROCID", "0") == "0"
            and (job is not None or callable(self.launcher))
        )

    def _is_left_to(self, launcher: Callable[..., object]) -> bool:
        """Call the launcher's handler, which may end the process; tell whether it had what it needs."""
        try:
            launcher(signal.SIGUSR2, None)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("⚠ The launcher could not requeue the job: %s", error)
            return False
        return True

    def _is_requeued(self, scheduler: Scheduler, job: str) -> bool:
        """Try the ways that the mode allows, in order: the scheduler's own command, then a job that follows."""
        if self.mode in ("auto", "native"):
            log.info("Requeueing job %s", job)  # the answer may be the end of this process
            result = scheduler.requeue(job)
            if not result.problem:
                log.warning("↻ Job %s is requeued; the run resumes automatically", job)
                sleep(scheduler.kill_seconds)
                return True
            log.warning("⚠ Job %s could not be requeued: %s", job, result.problem)
        if self.mode in ("auto", "chain"):
            result = scheduler.submit_successor(job, self.environment)
            if not result.problem:
                log.warning("↻ Job %s is followed by job %s; the run resumes automatically", job, result.text)
                return True
            log.warning("⚠ No job to follow job %s could be submitted: %s", job, result.problem)
        return False

    def _count(self, has_progressed: bool) -> None:
        """Keep the number of attempts in a row that made no progress."""
        before = 0
        with suppress(FileNotFoundError, CheckpointError):  # damaged or unreadable: nothing is known of it
            text = read_bytes(self.record_path, max_bytes=100)
            before = int(text) if re.fullmatch(rb"\d{1,9}", text) else 0
        num_stuck = 0 if has_progressed else before + 1
        is_stuck = num_stuck >= _MAX_STUCK
        try:
            replace_file(self.record_path, str(0 if is_stuck else num_stuck))
        except OSError as error:
            log.warning("⚠ %s: cannot be written (%s)", self.record_path, error.strerror)
        if is_stuck:
            raise StuckError(
                f"{self.record_path.parent}: {num_stuck} attempts in a row ended without a newer checkpoint, "
                "so the job is not requeued; give it more time (sbatch --time, qsub -l walltime, bsub -W), "
                "then resume with +resume=true"
            )


def _is_created(file: Path) -> bool:
    """Create the file that tells the job script to requeue, and tell whether that went well."""
    try:
        os.close(retry(lambda: open_to_append(file)))
        return True
    except OSError as error:
        log.warning("⚠ %s: cannot be created (%s), so the job script does not requeue", file, error.strerror)
        return False
