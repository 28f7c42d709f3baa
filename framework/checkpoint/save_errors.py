"""Errors of saving a checkpoint, with advice."""

from pathlib import Path

from framework.errors import CheckpointError, FrameworkError, disk_advice


class StateError(FrameworkError, TypeError):
    """The state contains something that could not be restored; nothing was saved."""

    exit_code = 2


class SaveError(CheckpointError, OSError):
    """A checkpoint was not saved, or may not survive a power cut; older ones are untouched."""

    exit_code = 1

    def __str__(self) -> str:  # OSError would print a pair
        return str(self.args[0])

    @classmethod
    def not_saved(cls, root: Path, error: OSError, newest: str | None) -> "SaveError":
        """Return the error for a checkpoint that was not added to `root`."""
        kept = f"{newest} is still the newest" if newest else "there is none yet"
        advice = disk_advice(error) or "check the file system"
        return cls(f"{root}: checkpoint not saved ({_reason(error)}), {kept}; {advice}")

    @classmethod
    def not_carried_over(cls, root: Path, error: CheckpointError) -> "SaveError":
        """Return the error for a file to be carried over from the newest checkpoint that has no intact copy."""
        return cls(f"{root}: checkpoint not saved because a file of the previous one is lost: {error}")

    @classmethod
    def durability_unknown(cls, path: Path, error: OSError) -> "SaveError":
        """Return the error for a rename whose fsync failed: visible now, perhaps not after a power cut."""
        return cls(f"{path}: checkpoint committed, durability unknown ({_reason(error)}); check the file system")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
