"""PBS: Torque's PBS_WALLTIME (OpenPBS has no such variable), `qstat -f` of both; `qrerun` and `qsub` to run again.

Sources: the manual pages of OpenPBS (qsub, qrerun, qdel, qstat, pbs_job_attributes) and of Torque, and the code of both
MOMs. `qdel`, `qrerun`, a preemption that requeues and the walltime look the same from within: SIGTERM to all processes
of the job, and SIGKILL after kill_delay, 10 s. What qstat says tells them apart.
"""

import functools
import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from framework.environment_variables import JOB_SCRIPT, REQUEUE_FILE, REQUEUED
from framework.runtime.process import process_start
from framework.runtime.schedulers.command import ADDED_VARIABLES, REQUEST_SECONDS, CommandResult, run_command
from framework.runtime.schedulers.scheduler import JobState, Scheduler, read_job_script
from framework.runtime.schedulers.time_estimate import TimeEstimate

_WALLTIME, _USED = "Resource_List.walltime", "resources_used.walltime"
_STARTS = ("stime", "start_time")  # of OpenPBS, of Torque
_RERUN = {"60", "61", "62", "63"}  # the substates of a job that the server reruns (OpenPBS, job.h)
_CLOCK_SECONDS = 30.0  # between the server's clock and this one; a job deleted so near its limit counts as at it
_GONE_SECONDS = 120  # by then this job has ended
_INDICES = ("PBS_ARRAY_INDEX", "PBS_ARRAYID")  # of an element of an array: in OpenPBS, in Torque
_DERIVED = {"nodect", "neednodes"}  # what the server adds to a Resource_List


class Pbs(Scheduler):
    """Reruns with `qrerun`, which takes the privilege of an operator; otherwise submits a successor."""

    can_requeue = True

    def job_id(self, environment: Mapping[str, str]) -> str | None:
        """Return the id, of an element of an array with its index in it: `12[4].head`."""
        return environment.get("PBS_JOBID")

    def end_times(self, environment: Mapping[str, str], fresh: bool) -> Iterator[TimeEstimate]:
        """Yield the job's start and PBS_WALLTIME seconds; then what qstat says of limit, use and start."""
        walltime = "" if fresh else environment.get("PBS_WALLTIME", "")
        job = self.job_id(environment)
        attributes, problem = _qstat(job) if job else ({}, "")
        started = _started(attributes)
        if walltime and started is not None:
            yield TimeEstimate.parse("PBS_WALLTIME", walltime, lambda text: started + float(text))
        if _WALLTIME in attributes:
            yield _limit(attributes)
        elif problem:
            yield TimeEstimate("qstat", "", None, problem)
        if walltime and started is None:  # too late by what the job did before this process
            source = "PBS_WALLTIME, since this process's start"
            yield TimeEstimate.parse(source, walltime, lambda text: process_start() + float(text))

    def start_times(self, environment: Mapping[str, str]) -> Iterator[TimeEstimate]:
        """Yield what qstat says of the start; failing that, the time that it says was used."""
        if job := self.job_id(environment):
            yield from _starts(_qstat(job)[0])

    def start_number(self, environment: Mapping[str, str]) -> int:
        """Return the time of this start, which changes with each: only privileged users are promised a count."""
        return _start_time(environment["PBS_JOBID"])

    def state(self, job: str, environment: Mapping[str, str], exit_code: int) -> JobState:
        """Return what qstat says: a server that preempts a job by rerunning it need not be asked for that."""
        attributes, _ = _qstat(job)
        end, is_rerun = _limit(attributes).time, attributes.get("substate") in _RERUN
        return JobState(
            is_preempted=is_rerun,
            is_at_limit=end is not None and end - time.time() < _CLOCK_SECONDS,
            is_interactive=environment.get("PBS_ENVIRONMENT") == "PBS_INTERACTIVE",
            is_requeued=is_rerun,
        )

    def requeue(self, job: str) -> CommandResult:
        """Rerun the job, which also takes the job's `-r y`; this process is ended then."""
        result = run_command("qrerun", job, seconds=REQUEST_SECONDS)
        is_slow = "did not answer" in result.problem  # it answers when the job has ended
        return CommandResult("") if is_slow and _qstat(job)[0].get("substate") in _RERUN else result

    def submit_successor(self, job: str, environment: Mapping[str, str]) -> CommandResult:
        """Submit the job's script again with the same resources, queue and variables; its output has its own file.

        No job can depend on an element of an array: there, a single job with its index starts a little later.
        """
        script = read_job_script(environment)
        attributes, problem = _qstat(job)
        if script.problem or problem:
            return CommandResult("", script.problem or problem)
        options = _options(attributes, environment.get("PBS_O_QUEUE"))
        if "[" in job:
            later = datetime.now() + timedelta(seconds=_GONE_SECONDS)
            options += ["-a", later.strftime("%Y%m%d%H%M.%S")]
        else:
            options += ["-W", f"depend=afterany:{job}"]
        variables = [*sorted(_variables(attributes) & environment.keys() - ADDED_VARIABLES.keys()), f"{REQUEUED}=1"]
        variables += [f"{name}={environment[name]}" for name in _INDICES if name in environment]
        options += ["-v", ",".join(variables)]
        directory = environment.get("PBS_O_WORKDIR")
        return run_command("qsub", *options, seconds=REQUEST_SECONDS, stdin=script.text, directory=directory)

    def script_hint(self, exit_code: int) -> str:
        """Return lines for the script: PBS requeues for no exit code, and after `qdel` the code is the same."""
        successor = f'{REQUEUED}=1 qsub -V -W depend=afterany:$PBS_JOBID "$0"'
        return (
            f"export {JOB_SCRIPT}=$0 before Python; or, before and after it:\n"
            f"    export {REQUEUE_FILE}=$PBS_O_WORKDIR/$PBS_JOBID.requeue\n"
            f'    rc=$?; rm "${REQUEUE_FILE}" 2>/dev/null && {successor}; exit $rc'
        )


@functools.cache  # a process sees one start of its job, and needs it several times
def _start_time(job: str) -> int:
    """Return the moment of the job's last start, to the second: it changes when the job is started again."""
    times = (estimate.time for estimate in _exact_starts(_qstat(job)[0]))
    return int(next((moment for moment in times if moment is not None), 0))


def _limit(attributes: Mapping[str, str]) -> TimeEstimate:
    """Return the end of the job by what qstat says, which is None where there is no walltime."""

    def end(walltime: str) -> float:
        return _end(_clock(walltime), _started(attributes), attributes.get(_USED))

    return TimeEstimate.parse("qstat", attributes.get(_WALLTIME, ""), end)


def _exact_starts(attributes: Mapping[str, str]) -> Iterator[TimeEstimate]:
    for name in _STARTS:
        if name in attributes:
            yield TimeEstimate.parse("qstat", attributes[name], _date)


def _starts(attributes: Mapping[str, str]) -> Iterator[TimeEstimate]:
    yield from _exact_starts(attributes)
    if _USED in attributes:  # the MOM updates it every now and then
        yield TimeEstimate.parse("qstat", attributes[_USED], lambda text: time.time() - _clock(text))


def _started(attributes: Mapping[str, str]) -> float | None:
    times = (estimate.time for estimate in _starts(attributes))
    return next((moment for moment in times if moment is not None), None)


def _end(walltime: float, started: float | None, used: str | None) -> float:
    """Return the earlier of start + limit and now + limit - use."""
    from_start = [started + walltime] if started is not None else []
    from_use = [time.time() + walltime - _clock(used)] if used else []
    return min(from_start + from_use, default=float("nan"))


def _qstat(job: str) -> tuple[dict[str, str], str]:
    """Return the job's attributes by dotted name, from JSON or from text (Torque knows no JSON), and the problem."""
    result = run_command("qstat", "-f", "-F", "json", job)
    try:
        jobs = json.loads(result.text)["Jobs"].values()
        return _flatten(next(iter(jobs))), ""
    except (ValueError, LookupError, AttributeError, TypeError, StopIteration):
        pass  # not JSON, or not as OpenPBS writes it
    if "did not answer" in result.problem:  # it would not answer the second time either
        return {}, result.problem
    result = run_command("qstat", "-f", job)
    joined = re.sub(r"\n\t\s*", "", result.text)  # long values continue in the next line after a tab
    return dict(re.findall(r"^\s*([\w.]+) = (.*?)\s*$", joined, re.M)), result.problem


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): str(value)}


def _clock(text: str) -> float:
    """Read HH:MM:SS, or bare seconds as Torque also writes them."""
    if not re.fullmatch(r"\d+(:\d{1,2}){0,2}", text):
        raise ValueError(text)
    seconds = 0.0
    for field in text.split(":"):
        seconds = 60 * seconds + float(field)
    return seconds


def _date(text: str) -> float:
    """Read `Fri Nov 20 08:35:23 2026` in local time, or Unix seconds."""
    if text.isdigit():
        return float(text)
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").timestamp()


def _options(attributes: Mapping[str, str], queue: str | None) -> list[str]:
    """Return the job's name, queue, account and resources as options of qsub."""
    named = [("-N", attributes.get("Job_Name")), ("-q", queue), ("-A", attributes.get("Account_Name"))]
    resources = [("-l", f"{name}={value}") for name, value in _resources(attributes).items()]
    return [text for option, value in [*named, *resources] if value for text in (option, value)]


def _resources(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return what to ask for again: a select statement stands for all that the server has derived from it."""
    prefix = "Resource_List."
    asked = {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
    if "select" in asked:
        return {name: asked[name] for name in ("select", "place", "walltime") if name in asked}
    return {name: value for name, value in asked.items() if name not in _DERIVED}


def _variables(attributes: Mapping[str, str]) -> set[str]:
    """Return the names of the variables that the job was submitted with, without those that PBS sets."""
    prefix = "Variable_List."
    names = {name.removeprefix(prefix) for name in attributes if name.startswith(prefix)}
    names |= set(re.findall(r"(?:^|,)([A-Za-z_]\w*)=", attributes.get("Variable_List", "")))
    return {name for name in names if re.fullmatch(r"[A-Za-z_]\w*", name) and not name.startswith("PBS_")}
