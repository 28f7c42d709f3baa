"""Simulating once more, where the stored simulations lack nodes that the graph has since got.

A simulation is a function of the graph, the seed and its index, node by node: those that were there come out as before.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from framework.simulation.store import SimulationStore

log = logging.getLogger(__name__)


def set_aside(directory: Path, nodes: Sequence[str]) -> Path | None:
    """Rename the store in `directory` if it lacks one of `nodes`; return where it is now, None if it lacks nothing."""
    if not SimulationStore.exists(directory):
        return None
    missing = [name for name in nodes if name not in SimulationStore.open(directory).event_shapes]
    if not missing:
        return None
    number = 1
    while (aside := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    directory.rename(aside)
    log.warning("simulating anew, with %s; the simulations so far are kept in %s", ", ".join(missing), aside)
    return aside


def changed_nodes(old_dir: Path, new: SimulationStore) -> list[str]:
    """Return the nodes in both stores whose values differ in a simulation that both have."""
    old = SimulationStore.open(old_dir)
    names = [name for name in old.event_shapes if name in new.event_shapes]
    before, after = old.load(names), new.load(names)
    _, rows, new_rows = np.intersect1d(before["index"], after["index"], assume_unique=True, return_indices=True)
    return [name for name in names if not np.array_equal(before[name][rows], after[name][new_rows])]
