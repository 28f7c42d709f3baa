"""Parallel, reproducible simulation of the graph into an append-only store."""

from framework.simulation.block import Block, Failure, simulate_block
from framework.simulation.importer import import_simulations, imported_names, imported_shapes
from framework.simulation.infer_shapes import infer_shapes
from framework.simulation.resimulate import changed_nodes, nodes_added_or_removed, set_aside_store
from framework.simulation.runner import run_simulations
from framework.simulation.store import SimulationStore

__all__ = [
    "Block",
    "Failure",
    "SimulationStore",
    "changed_nodes",
    "import_simulations",
    "imported_names",
    "imported_shapes",
    "infer_shapes",
    "nodes_added_or_removed",
    "run_simulations",
    "set_aside_store",
    "simulate_block",
]
