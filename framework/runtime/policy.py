"""The settings of a guard and the requests that it returns."""

import enum
from dataclasses import dataclass


class StopReason(enum.Enum):
    """The reasons for stopping an attempt before its work is done; the values are shown to users."""

    INTERRUPTED = "Interrupted"  # SIGINT
    TERMINATED = "Terminated"  # SIGTERM
    REQUEUE = "Stopped for requeue"  # SIGUSR2
    OUT_OF_TIME = "Out of time"  # the deadline

    @property
    def word(self) -> str:
        """The start of the message to the user."""
        return self.value


class Save(enum.Enum):
    """The result of `poll()` that requests a save, after which training continues."""

    NOW = "now"


class Stopped(BaseException):  # like KeyboardInterrupt, so that `except Exception` does not catch it
    """Raised by `check()` if the run has to stop."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.word)
        self.reason = reason


@dataclass(frozen=True)
class Policy:
    """The keys of `conf/runtime` that a guard follows; durations are in seconds."""

    checkpoint_before_end: float | str = "auto"
    periodic_checkpoint_every: float | str | None = None
    drain: str = "step"
    grace: float = 30.0
    second_signal_window: float = 5.0
    exit_code: int = 99

    def exit_code_of(self, reason: StopReason) -> int:
        """Return the process's exit code: 130 if the user interrupted it, as shells expect."""
        return 130 if reason is StopReason.INTERRUPTED else self.exit_code
