"""Drawing simulations from the graph, in parallel and reproducibly, into an append-only store."""

from framework.simulation.draw import Block, Failure, simulate_block
from framework.simulation.importer import import_simulations, imported_names, imported_shapes
from framework.simulation.probe import event_shapes
from framework.simulation.renewal import came_or_went, changed_nodes, set_aside
from framework.simulation.runner import run_simulations
from framework.simulation.store import SimulationStore

__all__ = [
    "Block",
    "Failure",
    "SimulationStore",
    "came_or_went",
    "changed_nodes",
    "event_shapes",
    "import_simulations",
    "imported_names",
    "imported_shapes",
    "run_simulations",
    "set_aside",
    "simulate_block",
]
