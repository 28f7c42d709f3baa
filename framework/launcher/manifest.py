"""`sweep.json` in the sweep's directory: its jobs and where their runs are, for whoever follows them later."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from framework.errors import CheckpointError
from framework.files import make_directory
from framework.launcher.plan import Planned
from framework.records import read_record, write_record

MANIFEST = "sweep.json"


def write_manifest(directory: Path, kind: str, planned: Sequence[Planned]) -> Path:
    """Write the manifest: the jobs of all commands so far, the last one's settings for each."""
    path = directory / MANIFEST
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
    """Return what the manifest says of the jobs of all commands so far; nothing where it cannot be read."""
    try:
        return list(read_record(directory / MANIFEST)["jobs"])
    except (FileNotFoundError, CheckpointError, LookupError, TypeError):
        return []
