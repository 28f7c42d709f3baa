"""Simulations conditional on the values of some nodes, as for the posterior predictive."""

from collections.abc import Callable, Mapping

import numpy as np

from framework.graph import Graph
from framework.simulation.block import Block, draw_rows_of_block, join_blocks
from framework.simulation.call import BLOCK
from framework.simulation.shard import unit_of

_ROWS_AT_ONCE = 4  # rows between calls of `check`, for simulators that are not batched


def simulate_conditional(
    graph: Graph, given: Mapping[str, np.ndarray], seed: int, check: Callable[[], None] = lambda: None
) -> Block:
    """Draw every node that is not in `given`, once for each row of the given arrays (num_rows, *event).

    The result's `index` contains the valid rows. `check` may raise to stop.
    """
    num_rows = len(next(iter(given.values())))
    padding = -num_rows % BLOCK  # batched simulators are always called for whole blocks
    padded = {name: np.concatenate([rows, np.repeat(rows[-1:], padding, axis=0)]) for name, rows in given.items()}
    size = max(unit_of(graph), _ROWS_AT_ONCE)
    blocks = []
    for start in range(0, num_rows, size):
        blocks.append(draw_rows_of_block(graph, seed, np.arange(start, min(start + size, num_rows)), padded))
        check()
    return join_blocks(blocks)
