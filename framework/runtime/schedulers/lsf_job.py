"""What an LSF job can do to itself: be requeued, or be followed by another.

Source: IBM's reference of bsub, bkill, brequeue, bjobs and the environment variables. `bkill`, a limit of memory and
TERMINATE_WHEN send SIGINT, SIGTERM and SIGKILL, 10 s apart: to a run an interruption, after which it stays cancelled.
The run limit sends SIGUSR2, ten minutes before it kills; `bsub -wa USR2 -wt 2` sends it before. Preemption suspends.
"""

import functools
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from framework.runtime.schedulers.batch import SECONDS, Facts, script_of
from framework.runtime.schedulers.lsf import job_id
from framework.runtime.schedulers.reading import Answer, ask, without

__all__ = ["KILL_SECONDS", "follow_up", "in_script", "job_id", "look", "requeue", "start_number"]

KILL_SECONDS = 30.0  # SIGKILL comes 20 s after SIGINT; a job that ended before by itself would be over
# Of `bjobs -UF`; a newer LSF writes "Started 1 Task(s) on Host(s)", and of an array "[4] started on".
_STARTED = re.compile(r"^\w{3} (\w{3} +\d+ \d\d:\d\d:\d\d)(?: \d{4})?: (?:\[\d+\] )?[Ss]tarted ", re.M)


def start_number(environment: Mapping[str, str]) -> int:
    """Return the time of this start: LSF keeps no count, and sets LSB_RESTART only if a host has failed."""
    return _start(job_id(environment) or "") or int(environment.get("LSB_RESTART") == "Y")


@functools.cache  # a process sees one start of its job, and asks for it several times
def _start(job: str) -> int:
    starts = _STARTED.findall(ask("bjobs", "-UF", job).text)
    if not starts:
        return 0
    now = datetime.now()
    start = datetime.strptime(f"{now.year} {starts[-1]}", "%Y %b %d %H:%M:%S")
    if start > now + timedelta(days=1):  # of last year
        start = start.replace(year=now.year - 1)
    return int(start.timestamp())


def look(job: str, environment: Mapping[str, str], exit_code: int) -> Facts:
    """Return what the environment says: LSB_EXIT_REQUEUE lists the exit codes after which LSF requeues."""
    codes = re.findall(r"~?\d+|all", environment.get("LSB_EXIT_REQUEUE", ""))
    return Facts(
        is_interactive=environment.get("LSB_INTERACTIVE") == "Y",
        is_requeued=(str(exit_code) in codes or "all" in codes) and f"~{exit_code}" not in codes,
    )


def requeue(job: str) -> Answer:
    """Have LSF kill the job and put it back into the queue, which its owner may, with the same id."""
    return Answer("", ask("brequeue", job, seconds=SECONDS).problem)


def follow_up(job: str, environment: Mapping[str, str]) -> Answer:
    """Submit the job's script again to the same queue; what else was on bsub's command line has to be in the script."""
    script = script_of(environment)
    if script.problem:
        return script
    options = ["-w", f"ended({job})"]
    if queue := environment.get("LSB_QUEUE"):
        options += ["-q", queue]
    if index := re.search(r"\[\d+\]", job):  # an array of one element, with the same index
        options += ["-J", environment.get("LSB_JOBNAME", "job").partition("[")[0] + index[0]]
    of_this_job = [name for name in environment if name.startswith("LSB_")]
    command = [*without(of_this_job), "FRAMEWORK_REQUEUED=1", "bsub", *options]
    answer = ask(*command, seconds=SECONDS, given=script.text, directory=environment.get("LS_SUBCWD"))
    submitted = re.search(r"Job <(\d+)>", answer.text)
    return Answer(submitted[1] if submitted else answer.text, answer.problem)


def in_script(exit_code: int) -> str:
    """Return the line by which LSF itself requeues."""
    return f'#BSUB -Q "{exit_code}"'
