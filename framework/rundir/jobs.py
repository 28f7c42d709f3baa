"""What a launcher records with a run: the job that was submitted last, and how its process ended."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.errors import ResumeRefusedError
from framework.rundir.attempts import read_attempts, write_atomically

JOB_FILE = "job.json"  # the job that was submitted last for the run
EXIT_FILE = "exit.json"  # how the last job's process ended


def record_exit(run_dir: Path, code: object, is_failure: bool) -> None:
    """Record how a job's process ended: there are errors before an attempt begins, and after it has ended."""
    attempts = read_attempts(run_dir)
    if code == ResumeRefusedError.exit_code and attempts and attempts[-1]["stop_reason"] == "finished":
        return  # the run is what it was
    facts = {"code": code, "is_failure": is_failure, "num_attempts": len(attempts)}
    write_json(run_dir / EXIT_FILE, facts)


def failed_since(last_exit: Any, num_attempts: int) -> bool:
    """Tell whether a job's process failed after the last of its attempts had ended, or before the first began."""
    return isinstance(last_exit, dict) and bool(last_exit["is_failure"]) and last_exit["num_attempts"] == num_attempts


def write_json(path: Path, value: Any) -> None:
    """Write a small file so that readers see the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, indent=1))


def read_json(path: Path) -> Any:
    """Return what the file holds, None if it cannot be read."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None
