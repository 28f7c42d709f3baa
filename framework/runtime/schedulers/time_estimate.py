"""A moment as one source tells it: a variable of the job's environment, or a command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from framework.runtime.schedulers.command import run_command

_UNLIMITED = {"", "-", "NOT_SET", "UNLIMITED", "INFINITE", "INF", "N/A", "NONE", "UNKNOWN", "INVALID"}


@dataclass(frozen=True)
class TimeEstimate:
    """A moment in Unix seconds, or None with the reason why the source gives none."""

    source: str  # as people know it: SLURM_JOB_END_TIME, squeue
    text: str  # what it said
    time: float | None
    problem: str = ""  # a whole sentence to warn with, empty where it is fine that there is no limit

    @classmethod
    def parse(cls, source: str, text: str, convert: Callable[[str], float]) -> "TimeEstimate":
        """Return the estimate that `text` gives: `convert` raises `ValueError` for what is not a time."""
        text = text.strip()
        if text.upper() in _UNLIMITED:
            return cls(source, text, None)
        try:
            return cls(source, text, convert(text))
        except (ValueError, OverflowError):
            return cls(source, text, None, f"{source}: {text[:60]!r} is not a time")

    @classmethod
    def from_command(cls, source: str, command: Sequence[str], convert: Callable[[str], float]) -> "TimeEstimate":
        """Return the estimate that a command prints."""
        result = run_command(*command)
        if result.problem:
            return cls(source, "", None, result.problem)
        return cls.parse(source, result.text, convert)
