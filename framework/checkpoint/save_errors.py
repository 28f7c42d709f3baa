"""Why a checkpoint could not be saved, and what to do about it."""

from pathlib import Path

from framework.errors import CheckpointError, FrameworkError, disk_advice


class StateError(FrameworkError, TypeError):
    """Something that was to be saved could not be read again; nothing was saved, whatever the disk."""

    exit_code = 2


class SaveError(CheckpointError, OSError):
    """A checkpoint was not saved, or nobody knows whether it would survive a power cut; older ones are untouched."""

    exit_code = 1

    def __str__(self) -> str:  # OSError would print a pair
        return str(self.args[0])

    @classmethod
    def not_saved(cls, root: Path, error: OSError, newest: str | None) -> "SaveError":
        """Nothing was added to `root`."""
        kept = f"{newest} is still the newest" if newest else "there is none yet"
        advice = disk_advice(error) or "look at the file system"
        return cls(f"{root}: checkpoint not saved ({_reason(error)}), {kept}; {advice}")

    @classmethod
    def not_carried_over(cls, root: Path, error: CheckpointError) -> "SaveError":
        """Nothing was added to `root`: a file of the newest checkpoint that stays the same is nowhere whole."""
        return cls(f"{root}: checkpoint not saved, since a file that it takes over is lost: {error}")

    @classmethod
    def durability_unknown(cls, path: Path, error: OSError) -> "SaveError":
        """The rename was done but its fsync failed: visible now, perhaps not after a power cut."""
        return cls(f"{path}: checkpoint committed, durability unknown ({_reason(error)}); look at the file system")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
