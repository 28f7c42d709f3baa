"""Verdicts on changes, and explanations of effects that a change's class does not describe."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from framework.config.schema import SHAPE, TRAJECTORY
from framework.resume.differences import Change

VERSION = "version"
FOLLOWS_EPOCHS = "follows loop.num_epochs: the schedule's shape depends on it"


def judge(changes: Iterable[Change], allow: Sequence[str]) -> None:
    """Set each change's verdict: shape is refused, trajectory must be allowed, free is always accepted."""
    for change in changes:
        if change.kind == SHAPE:
            change.verdict = "refused"
        elif change.kind == TRAJECTORY:
            change.verdict = "allowed" if any(_allows(item, change) for item in allow) else "refused"


def _allows(item: str, change: Change) -> bool:
    """Return whether `item` matches the change: its key, a group that contains it, a pattern, or the class."""
    if change.key == VERSION:
        return item == VERSION
    key = change.key
    return item in (TRAJECTORY, key) or key.startswith(f"{item}.") or fnmatchcase(key, item)


def explain(changes: Iterable[Change], epochs: Mapping[str, int], unresolved: Mapping[str, Any]) -> None:
    """Set the reason of changes whose class does not describe their effect.

    `epochs` is the epoch that each node has reached, `unresolved` the new configuration with its interpolations.
    """
    for change in changes:
        if change.path[-2:] == ("loop", "num_epochs"):
            nodes = [str(change.path[1])] if change.path[0] == "graph" else list(epochs)
            reached = max((epochs.get(node, 0) for node in nodes), default=0)
            if isinstance(change.new, int) and change.new < reached:
                change.reason = f"epoch {reached} has already been reached: training ends there"
        elif change.kind == TRAJECTORY and "loop.num_epochs" in str(_at(unresolved, change.path)):
            change.reason = FOLLOWS_EPOCHS
        elif change.key == "simulation.num_simulations" and change.new < change.old:
            change.reason = "all stored simulations are used"
        elif change.path[-2:] == ("scheduler", "_target_"):
            change.reason = "the new schedule starts at the current epoch, with optimizer.lr"


def _at(container: Any, path: Sequence[str | int]) -> Any:
    for name in path:
        is_there = isinstance(container, Mapping) and name in container
        container = container[name] if is_there else None
    return container
