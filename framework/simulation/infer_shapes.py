"""Inference of the nodes' event shapes from one simulation, before anything is stored."""

from functools import partial

from framework.config.target import shown
from framework.errors import SimulationError
from framework.graph import Graph
from framework.simulation.block import simulate_one

NUM_PROBES = 10


def infer_shapes(graph: Graph, seed: int) -> dict[str, tuple[int, ...]]:
    """Return the event shape of each node, from the first valid one of a few simulations.

    Raises `SimulationError` with the last failure if all are invalid.
    """
    for index in range(NUM_PROBES):
        block = simulate_one(graph, seed, index)
        if len(block.index):
            return {name: values.shape[1:] for name, values in block.values.items()}
    last = block.failures[-1]
    simulator = graph.nodes[last.node].simulator
    key = f"graph.{last.node}"
    with_arguments = f" of {key}.simulator{shown(simulator.keywords)}" if isinstance(simulator, partial) else ""
    raise SimulationError(
        f"{key}: the first {NUM_PROBES} simulations are all invalid; the last one{with_arguments}: {last.message}"
    )
