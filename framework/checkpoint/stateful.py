"""The interface of objects whose state must survive a restart."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from framework.errors import CheckpointError, FrameworkError

# Of classes that have moved since: checkpoints name them by the path that they had.
_EARLIER_PATHS = {"framework.checkpoint.random_state.RandomState": ("framework.checkpoint.rng.RandomState",)}


class EntryError(CheckpointError):
    """A checkpoint entry that the corresponding object cannot load."""

    def __init__(self, entry: str, error: Exception) -> None:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        super().__init__(f"checkpoint entry {entry}: cannot be loaded ({reason})")
        self.entry = entry


@runtime_checkable
class Stateful(Protocol):
    """An object with state that a resumed run needs."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain containers and tensors."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Restore the state."""
        ...


def state_of(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Return the state of every part, for `load_all`."""
    return {name: part.state_dict() for name, part in parts.items()}


def class_paths(parts: Mapping[str, Stateful]) -> dict[str, str]:
    """Return the import path of each part's class, for `check_classes`."""
    return {name: f"{type(part).__module__}.{type(part).__qualname__}" for name, part in parts.items()}


def check_classes(parts: Mapping[str, Stateful], saved: Mapping[str, str]) -> None:
    """Raise `CheckpointError` if an object of another class saved the state; never imports what a checkpoint names."""
    for name, path in class_paths(parts).items():
        if saved.get(name) not in (path, *_EARLIER_PATHS.get(path, ())):
            raise CheckpointError(f"checkpoint entry {name}: saved by {saved.get(name)}, refused for {path}")


def load_all(parts: Mapping[str, Stateful], states: Mapping[str, Any]) -> None:
    """Load every part, in the order of `parts`; the keys of `parts` and `states` must be equal.

    Raises `CheckpointError`, also if a part cannot load its state.
    """
    if unmatched := parts.keys() ^ states.keys():
        raise CheckpointError(f"checkpoint entries do not match: {', '.join(sorted(unmatched))}")
    for name, part in parts.items():
        try:
            part.load_state_dict(states[name])
        except (FrameworkError, MemoryError):
            raise
        except Exception as error:  # the file is untrusted, so any error is possible
            raise EntryError(name, error) from error
