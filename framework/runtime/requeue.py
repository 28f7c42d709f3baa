"""Another attempt for a job that ran out of time or was preempted, asked for once all is saved.

Slurm requeues a preempted job itself only if it has to kill it: one that saves and ends within its grace time
counts as ended. SIGTERM is also sent at the time limit and by `scancel`; only the last asks for no other attempt.
PBS and LSF differ in who may ask and in what is sent when: see `schedulers/pbs_job.py` and `lsf_job.py`.
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

from framework.errors import CheckpointError, StuckError
from framework.files import open_to_append, replace_file, retry
from framework.records import read_bytes
from framework.runtime.late_signals import Handler
from framework.runtime.policy import StopReason
from framework.runtime.schedulers import BatchSystem, batch_job
from framework.runtime.schedulers.batch import Facts

log = logging.getLogger(__name__)

SCRIPT_FILE = "FRAMEWORK_REQUEUE_FILE"  # names a file that the job script looks for after Python: it requeues then
_MAX_STUCK = 2  # attempts in a row that may end as they began


@dataclass
class Requeue:
    """Follows `runtime.requeue` in a scheduler's job, once; does nothing elsewhere.

    `record_path` is a file kept between attempts: how many in a row brought nothing new. `launcher` is the
    handler of SIGUSR2 that was there before the guard's: submitit's requeues, and keeps its own records.
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

        Raises `StuckError` instead if neither this attempt nor the one before has, unless it was preempted.
        A launcher may end the process. Of two threads the second waits for the first, and does nothing.
        """
        with self._lock:
            if not self._has_been_called:
                self._has_been_called = True
                self._after(reason, has_progressed)

    def _after(self, reason: StopReason, has_progressed: bool) -> None:
        (system, job), rank = batch_job(self.environment), self.environment.get("SLURM_PROCID", "0")
        brings_no_time = reason is StopReason.OUT_OF_TIME and self.environment.get("SUBMITIT_EXECUTOR") == "local"
        if (
            self.mode == "never"
            or brings_no_time  # a local job that is started again is in the same allocation
            or reason is StopReason.INTERRUPTED
            or rank != "0"
            or not (job or callable(self.launcher))
        ):
            return
        facts = system.look(job, self.environment, self.exit_code) if system and job else Facts()
        is_sent = reason is StopReason.TERMINATED and not (facts.is_preempted or facts.is_at_limit)
        if is_sent or facts.is_decided:
            return
        if not facts.is_preempted:
            self._count(has_progressed)
        if callable(self.launcher) and self.mode == "auto" and self._is_left_to(self.launcher):
            return
        script_file = self.environment.get(SCRIPT_FILE)
        if facts.is_requeued:
            log.warning("↻ The scheduler requeues job %s without being asked: the run goes on by itself", job)
        elif script_file and self.mode in ("auto", "exit_code") and _is_created(Path(script_file)):
            log.warning("↻ The job script requeues the job: the run goes on by itself")
        elif facts.is_interactive:
            log.warning("⚠ An interactive allocation ends for good: go on with +resume=true in another")
        elif system and job and not self._is_asked_for(system, job):
            needed = system.in_script(self.exit_code)
            log.warning("⚠ Exit code %d is for the job script, which needs %s", self.exit_code, needed)

    def _is_left_to(self, launcher: Callable[..., object]) -> bool:
        """Call the launcher's handler, which may end the process; tell whether it had what it needs."""
        try:
            launcher(signal.SIGUSR2, None)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("⚠ The launcher could not requeue the job: %s", error)
            return False
        return True

    def _is_asked_for(self, system: BatchSystem, job: str) -> bool:
        """Try the ways that the mode allows, in order; say how each went."""
        ways = {
            "scontrol": ("is requeued", lambda: system.requeue(job)),
            "chain": ("is followed by job", lambda: system.follow_up(job, self.environment)),
        }
        for name, (words, ask) in ways.items():
            if self.mode not in ("auto", name):
                continue
            if name == "scontrol":
                log.info("Asking for job %s to be requeued", job)  # the answer may be the end of this process
            answer = ask()
            if not answer.problem:
                log.warning("↻ Job %s %s: the run goes on by itself", job, f"{words} {answer.text}".strip())
                sleep(system.KILL_SECONDS if name == "scontrol" else 0)
                return True
            log.warning("⚠ Job %s could not be given another attempt: %s", job, answer.problem)
        return False

    def _count(self, has_progressed: bool) -> None:
        """Keep the number of attempts in a row that brought nothing new."""
        before = 0
        with suppress(FileNotFoundError, CheckpointError):  # damaged, or not to be read: nothing is known of it
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
                "then go on with +resume=true"
            )


def _is_created(script_file: Path) -> bool:
    """Create the file that tells the job script to requeue, and tell whether that went well."""
    try:
        os.close(retry(lambda: open_to_append(script_file)))
        return True
    except OSError as error:
        log.warning(
            "⚠ %s: cannot be created (%s), so that the job script does not requeue", script_file, error.strerror
        )
        return False
