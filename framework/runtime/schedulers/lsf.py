"""LSF: `bjobs` tells the time left; only what it marks with L is the run limit, the rest are estimates.

Source: IBM's reference of bjobs. It names no variable with the end of the job; LSB_JOB_PEND_TIME
has been seen both as a pending duration and asked for as an end.
"""

import re
import time
from collections.abc import Iterator, Mapping

from framework.runtime.schedulers.reading import Answer, Reading, ask, read

_TIME_LEFT = re.compile(r"(?:^|\s)(\d+):(\d{1,2})(?::(\d{1,2}))?\s+([LEX])\s*$", re.M)
_MAX_PENDING_END_SECONDS = 60 * 86400.0


def ends(environment: Mapping[str, str], fresh: bool) -> Iterator[Reading]:
    """Yield the run limit of bjobs; last, LSB_JOB_PEND_TIME where it is a plausible end in Unix seconds."""
    if not (job := job_id(environment)):
        return
    answer = ask("bjobs", "-noheader", "-WL", job)
    if not _TIME_LEFT.search(answer.text) and "did not answer" not in answer.problem:
        answer = ask("bjobs", "-noheader", "-o", "time_left", job)
    yield _limit(answer)
    pending = environment.get("LSB_JOB_PEND_TIME", "")
    if not fresh and pending.isdigit() and 0 < float(pending) - time.time() < _MAX_PENDING_END_SECONDS:
        yield Reading("LSB_JOB_PEND_TIME", pending, float(pending))


def starts(environment: Mapping[str, str]) -> Iterator[Reading]:
    """Yield now less the run time of bjobs, as in `7203 second(s)`."""
    if job := job_id(environment):
        text = ask("bjobs", "-noheader", "-o", "run_time", job).text
        if match := re.match(r"\s*(\d+)\s*second", text):
            yield Reading("bjobs", text, time.time() - float(match.group(1)))


def job_id(environment: Mapping[str, str]) -> str | None:
    """Return the id that names this element of an array alone."""
    job, index = environment.get("LSB_JOBID"), environment.get("LSB_JOBINDEX", "0")
    return f"{job}[{index}]" if job and index != "0" else job


def _limit(answer: Answer) -> Reading:
    match = _TIME_LEFT.search(answer.text)
    if match is None:
        unlimited = read("bjobs", answer.text.split()[-1] if answer.text else "", _no_time)
        return Reading("bjobs", answer.text, None, answer.problem or unlimited.problem)
    hours, minutes, seconds, kind = match.groups()
    if kind != "L":
        return Reading("bjobs", match.group().strip(), None)
    left = 3600.0 * float(hours) + 60 * float(minutes) + float(seconds or 0)
    return Reading("bjobs", match.group().strip(), time.time() + left)


def _no_time(text: str) -> float:
    raise ValueError(text)
