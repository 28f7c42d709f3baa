"""What a guard is asked to do, and what it answers."""

import enum
from dataclasses import dataclass


class StopReason(enum.Enum):
    """Why an attempt ended before its work was done, with the word that says so."""

    INTERRUPTED = "Interrupted"  # SIGINT
    TERMINATED = "Terminated"  # SIGTERM
    REQUEUE = "Stopped for requeue"  # SIGUSR2
    OUT_OF_TIME = "Out of time"  # the deadline

    @property
    def word(self) -> str:
        """The word that begins the message to people."""
        return self.value


class Save(enum.Enum):
    """The answer of `poll()` that asks for a save, after which to go on."""

    NOW = "now"


class Stopped(BaseException):  # like KeyboardInterrupt: no `except Exception` on its way may swallow it
    """Raised by `check()` where the run has to stop."""

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
        """Return what the process ends with: 130 when the user interrupted it, as shells expect."""
        return 130 if reason is StopReason.INTERRUPTED else self.exit_code
