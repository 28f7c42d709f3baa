"""Errors on which a user can act: each has an exit code and a message of one or two lines."""

import errno
from pathlib import Path
from typing import Self

_DISK_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "the quota is used up: delete or move files",
    errno.EFBIG: "the file size limit is reached: raise `ulimit -f`",
    errno.EROFS: "make it writable or save elsewhere",
    errno.EACCES: "make it writable or save elsewhere",
    errno.EPERM: "make it writable or save elsewhere",
}


def disk_advice(error: OSError) -> str | None:
    """Return advice for an error in writing a file, or None if the disk is not the cause."""
    return _DISK_ADVICE.get(error.errno or 0)


def printable(text: str) -> str:
    """Return the text on one line, with control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class FrameworkError(Exception):
    """An error that is shown without a traceback; the process exits with `exit_code`."""

    exit_code = 1


class ConfigError(FrameworkError, ValueError):
    """The configuration or an input file is wrong; the message names the key or file."""

    exit_code = 2


class SimulationError(FrameworkError, RuntimeError):
    """The simulator failed too often, or simulations could not be stored."""

    exit_code = 2


class TrainingError(FrameworkError, RuntimeError):
    """Training cannot continue."""


class RankLostError(FrameworkError, RuntimeError):
    """Another rank has exited or cannot be reached."""


class ResumeRefusedError(FrameworkError):
    """The command would overwrite or break an existing run."""

    exit_code = 3


class CheckpointError(FrameworkError):
    """A checkpoint is needed, and there is no usable one."""

    exit_code = 4


class DamagedError(CheckpointError):
    """A file of a run is missing, or is not as it was written."""


class UnreadableError(CheckpointError):
    """A file of a run exists, but the file system cannot read it now, so its state is unknown."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> Self:
        """Return the error for an `OSError` raised while reading `path`."""
        advice = "make it readable" if error.errno in (errno.EACCES, errno.EPERM) else "check the file system"
        return cls(f"{path}: cannot be read now ({error.strerror or error}); {advice}, then try again")


class StuckError(FrameworkError):
    """Two attempts in a row made no progress, so the job is not requeued."""


class SweepError(FrameworkError):
    """Not all jobs of a sweep have finished; the exit code is 1 if one failed, 99 if all others can be resumed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
