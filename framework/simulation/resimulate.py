"""Simulating again when the stored simulations lack nodes that were added to the graph.

A simulation is a function of the graph, the seed and its index, node by node, so nodes that existed before get the
same values.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from framework.errors import SimulationError, UnreadableError
from framework.files import sync_directory
from framework.simulation.store import SimulationStore

log = logging.getLogger(__name__)


def nodes_added_or_removed(directory: Path, nodes: Sequence[str], num_simulations: int | None) -> list[str]:
    """Return the nodes because of which the store in `directory` cannot be used for `nodes`; none if it does not exist.

    These are nodes that the store lacks and, if it has fewer than `num_simulations` simulations (None if they are
    imported), nodes in the store that were removed from the graph.
    """
    if not SimulationStore.exists(directory):
        return []
    store = SimulationStore.open(directory)
    changed = [name for name in nodes if name not in store.event_shapes]
    if num_simulations is not None and store.missing(num_simulations):
        changed += [name for name in store.event_shapes if name not in nodes]
    return changed


def set_aside_store(directory: Path, nodes: Sequence[str], num_simulations: int | None) -> Path | None:
    """Rename the store in `directory` if it cannot be used for `nodes`; return its new path, or None."""
    changed = nodes_added_or_removed(directory, nodes, num_simulations)
    if not changed:
        return None
    number = 1
    while os.path.lexists(aside := directory.with_name(f"{directory.name}.old-{number}")):
        number += 1
    directory.rename(aside)
    sync_directory(aside.parent)
    log.warning(
        "simulating again, because nodes were added or removed (%s); the old simulations are kept in %s",
        ", ".join(changed),
        aside,
    )
    return aside


def changed_nodes(old_dir: Path, new: SimulationStore) -> list[str]:
    """Return the nodes of both stores whose values differ in a simulation that both contain."""
    try:
        old = SimulationStore.open(old_dir)
        names = [name for name in old.event_shapes if name in new.event_shapes]
        before = old.load(names)
    except (SimulationError, UnreadableError) as error:  # the old store is not needed any more
        log.warning("⚠ %s; the new simulations cannot be compared with the old ones", error)
        return []
    after = new.load(names)
    _, rows, new_rows = np.intersect1d(before["index"], after["index"], assume_unique=True, return_indices=True)
    return [name for name in names if not np.array_equal(before[name][rows], after[name][new_rows])]
