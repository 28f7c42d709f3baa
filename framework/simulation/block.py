"""Simulation of the whole graph, node by node, for a range of simulations."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from framework.graph import Graph, Node
from framework.rng import seed_sequence, seeded
from framework.simulation.call import BLOCK, Draws, draw_batched, draw_prior, draw_rows


@dataclass(frozen=True)
class Failure:
    """The reason why a simulation is invalid."""

    index: int
    node: str
    message: str


@dataclass(frozen=True)
class Block:
    """The valid simulations of a range: `index` (n,) int64 and, for each node, float32 values (n, *event).

    `values` is empty if `index` is. `fell_back` means that the call for a batch raised, and rows were drawn one by one.
    """

    index: np.ndarray
    values: dict[str, np.ndarray]
    failures: list[Failure]
    fell_back: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether anything failed, possibly for a reason outside the simulator, so that repeating it may succeed."""
        return bool(self.failures) or self.fell_back

    def where(self, mask: np.ndarray) -> "Block":
        """Return a block with only the rows where `mask` is true."""
        values = {name: array[mask] for name, array in self.values.items()}
        return replace(self, index=self.index[mask], values=values)


def simulate_block(graph: Graph, seed: int, start: int, stop: int) -> Block:
    """Draw the simulations from `start` up to but not including `stop`.

    A simulation depends only on the graph, the seed and its index, not on the range. Batched
    simulators are always called for a whole aligned block of BLOCK simulations.
    """
    parts = []
    for first in range(start // BLOCK * BLOCK, stop, BLOCK):
        rows = np.arange(max(start, first), min(stop, first + BLOCK))
        parts.append(draw_rows_of_block(graph, seed, rows))
    return join_blocks(parts)


def join_blocks(blocks: Sequence[Block]) -> Block:
    """Concatenate blocks."""
    index = np.concatenate([block.index for block in blocks])
    filled = [block.values for block in blocks if len(block.index)]
    names = filled[0] if filled else ()
    values = {name: np.concatenate([values[name] for values in filled]) for name in names}
    failures = [failure for block in blocks for failure in block.failures]
    return Block(index, values, failures, any(block.fell_back for block in blocks))


def simulate_one(graph: Graph, seed: int, index: int) -> Block:
    """Draw one simulation on its own; with batched simulators, its values differ from those of `simulate_block`."""
    return draw_rows_of_block(graph, seed, np.array([index]), one_by_one=True)


def draw_rows_of_block(
    graph: Graph,
    seed: int,
    wanted: np.ndarray,
    given: Mapping[str, np.ndarray] | None = None,
    one_by_one: bool = False,
) -> Block:
    """Draw rows of a single block, dropping each row at the first node where it is invalid.

    Nodes up to the last batched one are drawn for the whole block, so that batches do not depend
    on the requested rows. Nodes in `given` take their values from it, by index.
    """
    given = given or {}
    order = [node for node in graph.simulation_order if node.name in graph.simulable]
    batched = [] if one_by_one else [position for position, node in enumerate(order) if node.batched]
    first = int(wanted[0]) // BLOCK * BLOCK
    block = Block(np.arange(first, first + BLOCK), {}, [])
    with seeded(seed_sequence(seed)), _one_thread():
        for position, node in enumerate(order):
            if position > max(batched, default=-1):
                block = block.where(np.isin(block.index, wanted))
            if not len(block.index):
                break
            known = node.name in given
            draws = (
                Draws(given[node.name][block.index], {}) if known else _draw_node(graph, node, block, seed, one_by_one)
            )
            block = _add(block, node, draws)
    block = block.where(np.isin(block.index, wanted))
    failures = [failure for failure in block.failures if wanted[0] <= failure.index <= wanted[-1]]
    return replace(block, values=block.values if len(block.index) else {}, failures=failures)


def _draw_node(graph: Graph, node: Node, block: Block, seed: int, one_by_one: bool) -> Draws:
    if node.prior is not None:
        return draw_prior(node, block.index, seed)
    parents = [_values(graph.nodes[name], block) for name in node.parents]
    draw = draw_batched if node.batched and not one_by_one else draw_rows
    return draw(node, parents, block.index, seed)


def _values(parent: Node, block: Block) -> np.ndarray:
    if parent.is_drawn:
        return block.values[parent.name]
    assert parent.observed is not None
    row = np.atleast_2d(parent.observed)  # a covariate: one row, the same for every simulation
    return np.broadcast_to(row, (len(block.index), *row.shape[1:]))


def _add(block: Block, node: Node, draws: Draws) -> Block:
    """Add a node's values and drop the rows in which they are invalid."""
    failures = [Failure(int(block.index[at]), node.name, draws.errors[at]) for at in sorted(draws.errors)]
    valid = np.ones(len(block.index), bool)
    valid[list(draws.errors)] = False
    values = {**block.values, node.name: draws.values}
    return Block(block.index, values, block.failures + failures, block.fell_back or draws.fell_back).where(valid)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread, because with more, sums may be rounded differently."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
