"""The contract of a place that metrics are sent to."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tracker(Protocol):
    """Receives one record per node and epoch; built from `tracking.*` with `run_dir` passed if it asks."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take one record: `node`, `epoch`, `step` and the epoch's numbers."""
        ...

    def cut_back(self, node: str, step: int) -> None:
        """Forget the node's records after `step`: a resumed run will send them again."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...
