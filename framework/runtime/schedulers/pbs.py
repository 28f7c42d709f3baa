"""PBS: Torque's PBS_WALLTIME (OpenPBS has no such variable), and `qstat -f` of both.

Sources: the MOM's list of variables and qstat of OpenPBS and of Torque.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from framework.runtime.process import process_start
from framework.runtime.schedulers.reading import Reading, ask, read

_WALLTIME, _USED = "Resource_List.walltime", "resources_used.walltime"
_STARTS = ("stime", "start_time")  # of OpenPBS, of Torque


def ends(environment: Mapping[str, str], fresh: bool) -> Iterator[Reading]:
    """Yield the job's start and PBS_WALLTIME seconds; then what qstat says of limit, use and start."""
    walltime = "" if fresh else environment.get("PBS_WALLTIME", "")
    job = environment.get("PBS_JOBID")
    facts, problem = qstat(job) if job else ({}, "")
    started = _started(facts)
    if walltime and started is not None:
        yield read("PBS_WALLTIME", walltime, lambda text: started + float(text))
    if _WALLTIME in facts:
        yield limit(facts)
    elif problem:
        yield Reading("qstat", "", None, problem)
    if walltime and started is None:  # late by what the job did before this process
        yield read("PBS_WALLTIME, since this process's start", walltime, lambda text: process_start() + float(text))


def starts(environment: Mapping[str, str]) -> Iterator[Reading]:
    """Yield what qstat says of the start; failing that, the time that it says was used."""
    if job := environment.get("PBS_JOBID"):
        facts, _ = qstat(job)
        yield from _starts(facts)


def job_id(environment: Mapping[str, str]) -> str | None:
    """Return the id, of an element of an array with its index in it: `12[4].head`."""
    return environment.get("PBS_JOBID")


def limit(facts: Mapping[str, str]) -> Reading:
    """Return the end of the job by what qstat says, which is None where there is no walltime."""
    return read("qstat", facts.get(_WALLTIME, ""), lambda text: _end(_clock(text), _started(facts), facts.get(_USED)))


def start(facts: Mapping[str, str]) -> Iterator[Reading]:
    """Yield the moment of the job's last start, to the second: it changes when the job is started again."""
    for name in _STARTS:
        if name in facts:
            yield read("qstat", facts[name], _date)


def _started(facts: Mapping[str, str]) -> float | None:
    return next((r.time for r in _starts(facts) if r.time is not None), None)


def _starts(facts: Mapping[str, str]) -> Iterator[Reading]:
    yield from start(facts)
    if _USED in facts:  # the MOM updates it every now and then
        yield read("qstat", facts[_USED], lambda text: time.time() - _clock(text))


def _end(walltime: float, started: float | None, used: str | None) -> float:
    """Return the earlier of start + limit and now + limit - use."""
    from_start = [started + walltime] if started is not None else []
    from_use = [time.time() + walltime - _clock(used)] if used else []
    return min(from_start + from_use, default=float("nan"))


def qstat(job: str) -> tuple[dict[str, str], str]:
    """Return the job's attributes by dotted name, read from JSON or from text (Torque knows no JSON)."""
    answer = ask("qstat", "-f", "-F", "json", job)
    try:
        jobs = json.loads(answer.text)["Jobs"].values()
        return _flatten(next(iter(jobs))), ""
    except (ValueError, LookupError, AttributeError, TypeError, StopIteration):
        pass  # not JSON, or not as OpenPBS writes it
    if "did not answer" in answer.problem:  # it would not answer the second time either
        return {}, answer.problem
    answer = ask("qstat", "-f", job)
    joined = re.sub(r"\n\t\s*", "", answer.text)  # long values go on in the next line after a tab
    return dict(re.findall(r"^\s*([\w.]+) = (.*?)\s*$", joined, re.M)), answer.problem


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
