"""`sweep.json` in the sweep's directory: its jobs and where their runs are, for whoever follows them later."""

import logging
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from framework.errors import DamagedError
from framework.files import make_directory
from framework.launcher.plan import Planned
from framework.records import read_record, write_record
from framework.rundir.job_records import SWEEP_FILE, is_job_id

log = logging.getLogger(__name__)


def write_manifest(directory: Path, kind: str, planned: Sequence[Planned]) -> Path:
    """Write the manifest: the jobs of all commands so far, the last one's settings for each."""
    path = directory / SWEEP_FILE
    jobs = {job["run_dir"]: job for job in known_jobs(directory)}
    for p in planned:
        ticket = p.ticket
        known = jobs.get(str(p.job.run_dir), {})
        jobs[str(p.job.run_dir)] = {
            "run_dir": str(p.job.run_dir),
            "overrides": p.job.overrides,
            "job_id": ticket.job_id if ticket else known.get("job_id", ""),
            "log": ticket.log if ticket else known.get("log", ""),
        }
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    make_directory(directory)
    write_record(path, {"launcher": kind, "command": sys.argv, "submitted": now, "jobs": list(jobs.values())})
    return path


def known_jobs(directory: Path) -> list[dict[str, Any]]:
    """Return what the manifest says of the jobs of all commands so far; what is none of this sweep's is left out."""
    path, listed = directory / SWEEP_FILE, None
    try:
        listed = read_record(path, of_version_02=[("launcher", "command", "submitted", "jobs")]).get("jobs")
    except FileNotFoundError:
        return []
    except DamagedError as error:
        log.warning("⚠ %s; it is left out", error)
    jobs = [job for job in listed if _is_job(job, directory)] if isinstance(listed, list) else []
    if listed is not None and jobs != listed:
        log.warning("⚠ %s: lists what is no job in its directory, which is left out", path)
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
