"""LSF: `bjobs` tells the time left; only what it marks with L is the run limit, the rest are estimates.

Source: IBM's reference of bsub, bkill, brequeue, bjobs and the environment variables. It names no variable with the end
of the job; LSB_JOB_PEND_TIME has been seen both as a pending duration and as an end. `bkill`, a memory limit and
TERMINATE_WHEN send SIGINT, SIGTERM and SIGKILL, 10 s apart: the run takes this as an interruption, after which it stays
cancelled. The run limit sends SIGUSR2, ten minutes before it kills; `bsub -wa USR2 -wt 2` sends it before. Preemption
suspends.
"""

import functools
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from framework.environment_variables import REQUEUED
from framework.runtime.schedulers.command import REQUEST_SECONDS, CommandResult, run_command, without_variables
from framework.runtime.schedulers.scheduler import JobState, Scheduler, read_job_script
from framework.runtime.schedulers.time_estimate import TimeEstimate

_TIME_LEFT = re.compile(r"(?:^|\s)(\d+):(\d{1,2})(?::(\d{1,2}))?\s+([LEX])\s*$", re.M)
_MAX_PENDING_END_SECONDS = 60 * 86400.0
# Of `bjobs -UF`; a newer LSF writes "Started 1 Task(s) on Host(s)", and of an array "[4] started on".
_STARTED = re.compile(r"^\w{3} (\w{3} +\d+ \d\d:\d\d:\d\d)(?: \d{4})?: (?:\[\d+\] )?[Ss]tarted ", re.M)


class Lsf(Scheduler):
    """Requeues with `brequeue`, which the job's owner may use and which keeps the job id."""

    can_requeue = True
    kill_seconds = 30.0  # SIGKILL comes 20 s after SIGINT; a job that ended before that by itself would be over

    def job_id(self, environment: Mapping[str, str]) -> str | None:
        """Return the id that names this element of an array alone."""
        job, index = environment.get("LSB_JOBID"), environment.get("LSB_JOBINDEX", "0")
        return f"{job}[{index}]" if job and index != "0" else job

    def end_times(self, environment: Mapping[str, str], fresh: bool) -> Iterator[TimeEstimate]:
        """Yield the run limit of bjobs; last, LSB_JOB_PEND_TIME where it is a plausible end in Unix seconds."""
        if not (job := self.job_id(environment)):
            return
        shown = run_command("bjobs", "-noheader", "-WL", job)
        if not _TIME_LEFT.search(shown.text) and "did not answer" not in shown.problem:
            shown = run_command("bjobs", "-noheader", "-o", "time_left", job)
        yield _limit(shown)
        pending = environment.get("LSB_JOB_PEND_TIME", "")
        if not fresh and pending.isdigit() and 0 < float(pending) - time.time() < _MAX_PENDING_END_SECONDS:
            yield TimeEstimate("LSB_JOB_PEND_TIME", pending, float(pending))

    def start_times(self, environment: Mapping[str, str]) -> Iterator[TimeEstimate]:
        """Yield now less the run time of bjobs, as in `7203 second(s)`."""
        if job := self.job_id(environment):
            text = run_command("bjobs", "-noheader", "-o", "run_time", job).text
            if match := re.match(r"\s*(\d+)\s*second", text):
                yield TimeEstimate("bjobs", text, time.time() - float(match.group(1)))

    def start_number(self, environment: Mapping[str, str]) -> int:
        """Return the time of this start: LSF keeps no count, and sets LSB_RESTART only if a host has failed."""
        return _start_time(self.job_id(environment) or "") or int(environment.get("LSB_RESTART") == "Y")

    def state(self, job: str, environment: Mapping[str, str], exit_code: int) -> JobState:
        """Return what the environment says: LSB_EXIT_REQUEUE lists the exit codes after which LSF requeues."""
        codes = re.findall(r"~?\d+|all", environment.get("LSB_EXIT_REQUEUE", ""))
        return JobState(
            is_interactive=environment.get("LSB_INTERACTIVE") == "Y",
            is_requeued=(str(exit_code) in codes or "all" in codes) and f"~{exit_code}" not in codes,
        )

    def requeue(self, job: str) -> CommandResult:
        """Have LSF kill the job and put it back into the queue with the same id."""
        return CommandResult("", run_command("brequeue", job, seconds=REQUEST_SECONDS).problem)

    def submit_successor(self, job: str, environment: Mapping[str, str]) -> CommandResult:
        """Submit the job's script again to the same queue; other options have to be in the script."""
        script = read_job_script(environment)
        if script.problem:
            return script
        options = ["-w", f"ended({job})"]
        if queue := environment.get("LSB_QUEUE"):
            options += ["-q", queue]
        if index := re.search(r"\[\d+\]", job):  # an array of one element, with the same index
            options += ["-J", environment.get("LSB_JOBNAME", "job").partition("[")[0] + index[0]]
        of_this_job = [name for name in environment if name.startswith("LSB_")]
        command = [*without_variables(of_this_job), f"{REQUEUED}=1", "bsub", *options]
        directory = environment.get("LS_SUBCWD")
        result = run_command(*command, seconds=REQUEST_SECONDS, stdin=script.text, directory=directory)
        submitted = re.search(r"Job <(\d+)>", result.text)
        return CommandResult(submitted[1] if submitted else result.text, result.problem)

    def script_hint(self, exit_code: int) -> str:
        """Return the line by which LSF itself requeues."""
        return f'#BSUB -Q "{exit_code}"'


@functools.cache  # a process sees one start of its job, and needs it several times
def _start_time(job: str) -> int:
    starts = _STARTED.findall(run_command("bjobs", "-UF", job).text)
    if not starts:
        return 0
    now = datetime.now()
    start = datetime.strptime(f"{now.year} {starts[-1]}", "%Y %b %d %H:%M:%S")
    if start > now + timedelta(days=1):  # of last year
        start = start.replace(year=now.year - 1)
    return int(start.timestamp())


def _limit(shown: CommandResult) -> TimeEstimate:
    match = _TIME_LEFT.search(shown.text)
    if match is None:
        unlimited = TimeEstimate.parse("bjobs", shown.text.split()[-1] if shown.text else "", _no_time)
        return TimeEstimate("bjobs", shown.text, None, shown.problem or unlimited.problem)
    hours, minutes, seconds, kind = match.groups()
    if kind != "L":
        return TimeEstimate("bjobs", match.group().strip(), None)
    left = 3600.0 * float(hours) + 60 * float(minutes) + float(seconds or 0)
    return TimeEstimate("bjobs", match.group().strip(), time.time() + left)


def _no_time(text: str) -> float:
    raise ValueError(text)
