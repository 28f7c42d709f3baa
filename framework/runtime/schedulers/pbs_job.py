"""What a PBS job can do to itself: be rerun, or be followed by another.

Sources: the manual pages of OpenPBS (qsub, qrerun, qdel, qstat, pbs_job_attributes) and of Torque, and what both MOMs
do. `qdel`, `qrerun`, a preemption that requeues and the walltime are one and the same from within: SIGTERM to all
processes of the job, and SIGKILL after kill_delay, 10 s. What qstat says tells them apart.
"""

import functools
import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from framework.runtime.schedulers import pbs
from framework.runtime.schedulers.batch import SCRIPT, SECONDS, Facts, script_of
from framework.runtime.schedulers.pbs import job_id
from framework.runtime.schedulers.reading import ADDED, Answer, ask

__all__ = ["KILL_SECONDS", "follow_up", "in_script", "job_id", "look", "requeue", "start_number"]

KILL_SECONDS = 0.0
_RERUN = {"60", "61", "62", "63"}  # the substates of a job that the server reruns (OpenPBS, job.h)
_CLOCK_SECONDS = 30.0  # the server's clock and this one; a job that is deleted so near its limit counts as at it
_GONE_SECONDS = 120  # by then this job has ended
_INDICES = ("PBS_ARRAY_INDEX", "PBS_ARRAYID")  # of an element of an array: in OpenPBS, in Torque
_DERIVED = {"nodect", "neednodes"}  # what the server adds to a Resource_List


def start_number(environment: Mapping[str, str]) -> int:
    """Return the time of this start, which changes with each: only privileged users are promised a count."""
    return _start(environment["PBS_JOBID"])


@functools.cache  # a process sees one start of its job, and asks for it several times
def _start(job: str) -> int:
    facts, _ = pbs.qstat(job)
    return int(next((r.time for r in pbs.start(facts) if r.time is not None), 0))


def look(job: str, environment: Mapping[str, str], exit_code: int) -> Facts:
    """Return what qstat says: one that preempts a job by rerunning it needs nothing of the job."""
    facts, _ = pbs.qstat(job)
    end, is_rerun = pbs.limit(facts).time, facts.get("substate") in _RERUN
    return Facts(
        is_preempted=is_rerun,
        is_at_limit=end is not None and end - time.time() < _CLOCK_SECONDS,
        is_interactive=environment.get("PBS_ENVIRONMENT") == "PBS_INTERACTIVE",
        is_requeued=is_rerun,
    )


def requeue(job: str) -> Answer:
    """Rerun the job, which takes the privilege of an operator and the job's `-r y`; this process is ended then."""
    answer = ask("qrerun", job, seconds=SECONDS)
    is_slow = "did not answer" in answer.problem  # it answers when the job has ended
    return Answer("") if is_slow and pbs.qstat(job)[0].get("substate") in _RERUN else answer


def follow_up(job: str, environment: Mapping[str, str]) -> Answer:
    """Submit the job's script again with the same resources, queue and variables; its output goes to a file of its own.

    No job can depend on an element of an array: there, a single job follows a little later, which has its index.
    """
    script = script_of(environment)
    facts, problem = pbs.qstat(job)
    if script.problem or problem:
        return Answer("", script.problem or problem)
    named = [("-N", facts.get("Job_Name")), ("-q", environment.get("PBS_O_QUEUE")), ("-A", facts.get("Account_Name"))]
    options = [part for option, value in named if value for part in (option, value)]
    for name, value in _resources(facts).items():
        options += ["-l", f"{name}={value}"]
    variables = [*sorted(_variables(facts) & environment.keys() - ADDED.keys()), "FRAMEWORK_REQUEUED=1"]
    variables += [f"{name}={environment[name]}" for name in _INDICES if name in environment]
    if "[" in job:
        later = datetime.now() + timedelta(seconds=_GONE_SECONDS)
        options += ["-a", later.strftime("%Y%m%d%H%M.%S")]
    else:
        options += ["-W", f"depend=afterany:{job}"]
    options += ["-v", ",".join(variables)]
    where = environment.get("PBS_O_WORKDIR")
    return ask("qsub", *options, seconds=SECONDS, given=script.text, directory=where)


def in_script(exit_code: int) -> str:
    """Return lines for the script: PBS requeues for no exit code, and after `qdel` the code is the same."""
    following = 'FRAMEWORK_REQUEUED=1 qsub -V -W depend=afterany:$PBS_JOBID "$0"'
    return (
        f"export {SCRIPT}=$0 before Python; or, before and after it:\n"
        "    export FRAMEWORK_REQUEUE_FILE=$PBS_O_WORKDIR/$PBS_JOBID.requeue\n"
        f'    rc=$?; rm "$FRAMEWORK_REQUEUE_FILE" 2>/dev/null && {following}; exit $rc'
    )


def _resources(facts: Mapping[str, str]) -> dict[str, str]:
    """Return what to ask for again: a select statement stands for all that the server has derived from it."""
    prefix = "Resource_List."
    asked = {name.removeprefix(prefix): value for name, value in facts.items() if name.startswith(prefix)}
    if "select" in asked:
        return {name: asked[name] for name in ("select", "place", "walltime") if name in asked}
    return {name: value for name, value in asked.items() if name not in _DERIVED}


def _variables(facts: Mapping[str, str]) -> set[str]:
    """Return the names of the variables that the job was submitted with; those of PBS are made anew."""
    prefix = "Variable_List."
    names = {name.removeprefix(prefix) for name in facts if name.startswith(prefix)}
    names |= set(re.findall(r"(?:^|,)([A-Za-z_]\w*)=", facts.get("Variable_List", "")))
    return {name for name in names if re.fullmatch(r"[A-Za-z_]\w*", name) and not name.startswith("PBS_")}
