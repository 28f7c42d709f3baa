"""Records of a launcher in a run directory: the last submitted job, and how its process ended."""

import functools
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeGuard, TypeVar

from framework.errors import DamagedError, ResumeRefusedError
from framework.files import make_directory
from framework.records import build, read_record, write_record
from framework.rundir.attempts import Outcome, read_attempts

T = TypeVar("T")

log = logging.getLogger(__name__)

JOB_FILE = "job.json"
EXIT_FILE = "exit.json"
SWEEP_FILE = "sweep.json"  # the jobs of a sweep, in its directory

_KEYS_OF_VERSION_02 = [
    ("launcher", "job_id", "log"),
    ("launcher", "job_id", "log", "host"),
    ("code", "is_failure", "num_attempts"),
]


@dataclass(frozen=True)
class JobRecord:
    """The last job that was submitted for a run."""

    launcher: str
    job_id: str
    log: str = ""
    host: str = ""


@dataclass(frozen=True)
class ExitRecord:
    """The exit of a job's process, and the number of the run's attempts at that time."""

    code: int
    is_failure: bool
    num_attempts: int


def write_job(run_dir: Path, job: JobRecord) -> None:
    """Record a job in its run's directory."""
    make_directory(run_dir)
    write_record(run_dir / JOB_FILE, asdict(job))


def read_job(run_dir: Path) -> JobRecord | None:
    """Return the last job submitted for the run, or None if unknown. Raises `UnreadableError`."""
    job = _read(JobRecord, run_dir / JOB_FILE)
    return job if job and is_job_id(job.job_id) else None


def record_exit(run_dir: Path, code: object, is_failure: bool) -> None:
    """Record how a job's process ended: errors may occur before an attempt starts and after it has ended."""
    attempts = read_attempts(run_dir)
    if code == ResumeRefusedError.exit_code and attempts.last and attempts.last.stop_reason is Outcome.FINISHED:
        return  # the refusal changed nothing
    number = code if isinstance(code, int) else int(code is not None)  # as in `sys.exit`
    make_directory(run_dir)
    write_record(run_dir / EXIT_FILE, asdict(ExitRecord(number, is_failure, len(attempts.numbers))))


def read_exit(run_dir: Path) -> ExitRecord | None:
    """Return how the last job's process ended, or None if unknown. Raises `UnreadableError`."""
    return _read(ExitRecord, run_dir / EXIT_FILE)


def is_job_id(value: object) -> TypeGuard[str]:
    """Return whether this is a valid job id, which is used in commands and paths."""
    return isinstance(value, str) and re.fullmatch(r"(\w[\w.\[\]-]{0,100})?", value) is not None


def _read(kind: type[T], path: Path) -> T | None:
    """Return a record, or None if it is missing or (with a warning) damaged; raises `UnreadableError`."""
    try:
        return build(kind, read_record(path, of_version_02=_KEYS_OF_VERSION_02), path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        _warn_once(f"{error}; ignored")
        return None


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("⚠ %s", text)
