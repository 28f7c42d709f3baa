"""The contract of everything whose state must survive a restart."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from framework.errors import CheckpointError


@runtime_checkable
class Stateful(Protocol):
    """Anything with state that a resumed run needs."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain containers and tensors."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take the state back."""
        ...


def state_of(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Return the state of every part, for `load_all`."""
    return {name: part.state_dict() for name, part in parts.items()}


def load_all(parts: Mapping[str, Stateful], states: Mapping[str, Any]) -> None:
    """Load every part, in the order of `parts`; an entry missing from or unknown to `states` is an error."""
    if unmatched := parts.keys() ^ states.keys():
        raise CheckpointError(f"checkpoint entries that do not match: {', '.join(sorted(unmatched))}")
    for name, part in parts.items():
        part.load_state_dict(states[name])
