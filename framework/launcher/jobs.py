"""The jobs of a sweep: which ones are to be submitted, those that were, and `sweep.json`, which lists them all."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from framework.errors import DamagedError
from framework.files import make_directory
from framework.launcher.launcher_job import Job
from framework.launcher.names import is_free, values_of
from framework.records import read_record, write_record
from framework.rundir.job_records import SWEEP_FILE, JobRecord, is_job_id, read_job, write_job
from framework.rundir.run_status import RunState, RunStatus, read_run

log = logging.getLogger(__name__)


@dataclass
class SubmittedJob:
    """One submitted job. `state` is queued, running or ended; `detail` is the scheduler's word for it."""

    run_dir: Path
    job_id: str = ""
    log: str = ""
    state: str = "queued"
    detail: str = ""

    def record(self, kind: str, host: str = "") -> None:
        """Record the job with its run; `host` is where a local one runs."""
        write_job(self.run_dir, JobRecord(kind, self.job_id, self.log, host))

    @classmethod
    def recorded(cls, run_dir: Path, kind: str) -> "SubmittedJob | None":
        """Return the job that was submitted last for the run, if it was by this kind of launcher."""
        job = read_job(run_dir)
        return cls(run_dir, job.job_id, job.log) if job and job.launcher == kind else None


class Executor(Protocol):
    """What runs jobs."""

    folder: Path  # of logs and pickled jobs

    def submit(self, jobs: Sequence[Job]) -> list[SubmittedJob]:
        """Submit the jobs, in this order."""

    def refresh(self, jobs: Sequence[SubmittedJob]) -> None:
        """Bring the state of these jobs up to date."""

    def stop(self, jobs: Sequence[SubmittedJob]) -> str:
        """Deal with the jobs that have not ended, as the launcher is interrupted; return what to tell about them."""


@dataclass
class Planned:
    """A job of the sweep and what is done about it: submit, monitor (it is under way), or nothing but report it."""

    job: Job
    status: RunStatus  # before this sweep
    action: str = "report"
    submitted: SubmittedJob | None = None

    @property
    def name(self) -> str:
        """The job's folder."""
        return self.job.run_dir.name


def plan_jobs(jobs: Sequence[Job], executor: Executor, kind: str, retry_failed: bool) -> list[Planned]:
    """Decide about each job by what its run directory says and, for jobs that were submitted before, the scheduler.

    Submitted are those that have neither finished nor failed and are not under way.
    """
    planned = [Planned(job, read_run(job.run_dir), submitted=SubmittedJob.recorded(job.run_dir, kind)) for job in jobs]
    executor.refresh([p.submitted for p in planned if p.submitted])
    for p in planned:
        p.action = _action(p, retry_failed)
    return planned


def _action(p: Planned, retry_failed: bool) -> str:
    if p.submitted and p.submitted.state != "ended":
        return "monitor"
    p.submitted = None
    state = p.status.state
    if p.status.is_held:  # by a command typed by hand, or by another kind of launcher
        return "report"
    if state is RunState.FINISHED and same_request(p.status.overrides, p.job.overrides):
        return "report"
    return "report" if state is RunState.FAILED and not retry_failed else "submit"


def same_request(first: Sequence[str], second: Sequence[str]) -> bool:
    """Tell whether two lists of overrides ask for the same: what only says how to run it does not count."""
    return _asked(first) == _asked(second)


def _asked(overrides: Sequence[str]) -> dict[str, str]:
    how = ("resume", "resume_allow", "overwrite", "trust", "runtime", "tracking", "device")
    asked = values_of(overrides).items()
    return {key: value for key, value in asked if not (is_free(key) and key.split(".")[0] in how)}


def write_sweep_file(directory: Path, kind: str, planned: Sequence[Planned]) -> Path:
    """Write `sweep.json`: the jobs of all commands so far, with the last one's settings for each."""
    path = directory / SWEEP_FILE
    jobs = {job["run_dir"]: job for job in known_jobs(directory)}
    for p in planned:
        submitted = p.submitted
        known = jobs.get(str(p.job.run_dir), {})
        jobs[str(p.job.run_dir)] = {
            "run_dir": str(p.job.run_dir),
            "overrides": p.job.overrides,
            "job_id": submitted.job_id if submitted else known.get("job_id", ""),
            "log": submitted.log if submitted else known.get("log", ""),
        }
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    make_directory(directory)
    write_record(path, {"launcher": kind, "command": sys.argv, "submitted": now, "jobs": list(jobs.values())})
    return path


def known_jobs(directory: Path) -> list[dict[str, Any]]:
    """Return what `sweep.json` lists of all commands so far; entries that are not this sweep's jobs are ignored."""
    path = directory / SWEEP_FILE
    listed = None
    try:
        listed = read_record(path, of_version_02=[("launcher", "command", "submitted", "jobs")]).get("jobs")
    except FileNotFoundError:
        return []
    except DamagedError as error:
        log.warning("⚠ %s; it is ignored", error)
    jobs = [job for job in listed if _is_job(job, directory)] if isinstance(listed, list) else []
    if listed is not None and jobs != listed:
        log.warning("⚠ %s: entries that are not jobs in its directory are ignored", path)
    return jobs


def _is_job(job: Any, directory: Path) -> bool:
    if not isinstance(job, dict) or not all(isinstance(job.get(key), str) for key in ("run_dir", "log")):
        return False
    overrides = job.get("overrides")
    is_inside = directory in Path(os.path.normpath(job["run_dir"])).parents
    return (
        is_inside
        and is_job_id(job.get("job_id"))
        and isinstance(overrides, list)
        and all(isinstance(override, str) for override in overrides)
    )
