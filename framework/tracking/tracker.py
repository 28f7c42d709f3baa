"""The interface of trackers, which receive metrics."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tracker(Protocol):
    """A receiver of one record per node and epoch, built from `tracking.*`; `run_dir` is passed if it takes one."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Log one record: `node`, `epoch`, `step` and the epoch's numbers."""
        ...

    def cut_back(self, node: str, step: int) -> None:
        """Discard the node's records after `step`, which a resumed run will log again."""
        ...

    def close(self) -> None:
        """Flush all pending records and release resources."""
        ...
