"""Errors that a user can act on: each has an exit code and a message of one or two lines."""

import errno
from pathlib import Path
from typing import Self

_DISK_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "the quota is used up: delete or move files",
    errno.EFBIG: "files may not grow that large: raise `ulimit -f`",
    errno.EROFS: "make it writable or save elsewhere",
    errno.EACCES: "make it writable or save elsewhere",
    errno.EPERM: "make it writable or save elsewhere",
}


def disk_advice(error: OSError) -> str | None:
    """Return what to do when a file cannot be written, or None where the disk is not to blame."""
    return _DISK_ADVICE.get(error.errno or 0)


def printable(text: str) -> str:
    """Return the text on one line, with what a terminal would obey spelt out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class FrameworkError(Exception):
    """Shown as its message alone, without a traceback; the process ends with `exit_code`."""

    exit_code = 1


class ConfigError(FrameworkError, ValueError):
    """The configuration or an input file is wrong; the message names the key or file."""

    exit_code = 2


class SimulationError(FrameworkError, RuntimeError):
    """The simulator failed too often, or simulations could not be stored."""

    exit_code = 2


class TrainingError(FrameworkError, RuntimeError):
    """Training cannot go on."""


class RankLostError(FrameworkError, RuntimeError):
    """Another of the processes that train together has ended, or cannot be reached."""


class ResumeRefusedError(FrameworkError):
    """Going on would overwrite or break an existing run."""

    exit_code = 3


class CheckpointError(FrameworkError):
    """No usable checkpoint where one is needed."""

    exit_code = 4


class DamagedError(CheckpointError):
    """A file of a run is not what was written."""


class UnreadableError(CheckpointError):
    """A file of a run is there, but the file system does not give it now: nothing is known of what it holds."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> Self:
        """Return the error for what was raised when `path` was read."""
        advice = "make it readable" if error.errno in (errno.EACCES, errno.EPERM) else "look at the file system"
        return cls(f"{path}: cannot be read now ({error.strerror or error}); {advice}, then try again")


class StuckError(FrameworkError):
    """Another attempt would end as this one and the one before did."""


class SweepError(FrameworkError):
    """Not all jobs of a sweep have finished; the code is 1 where one failed, 99 where all others can be resumed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
