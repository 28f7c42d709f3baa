"""Simulations with some nodes' values given: the posterior predictive."""

from collections.abc import Mapping

import numpy as np

from framework.graph import Graph
from framework.simulation.call import BLOCK
from framework.simulation.draw import Block, draw_rows_of_block, join_blocks


def simulate_given(graph: Graph, given: Mapping[str, np.ndarray], seed: int) -> Block:
    """Draw every node that is not in `given`, once for each row of the given arrays (num_rows, *event).

    `index` of the result are the rows that turned out valid.
    """
    num_rows = len(next(iter(given.values())))
    padding = -num_rows % BLOCK  # batched simulators always see whole blocks
    padded = {name: np.concatenate([rows, np.repeat(rows[-1:], padding, axis=0)]) for name, rows in given.items()}
    starts = range(0, num_rows, BLOCK)
    return join_blocks(
        [draw_rows_of_block(graph, seed, np.arange(start, min(start + BLOCK, num_rows)), padded) for start in starts]
    )
