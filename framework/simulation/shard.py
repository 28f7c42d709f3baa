"""The unit of work: a range of simulations that is simulated piece by piece and committed as one shard."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from framework.graph import Graph
from framework.simulation.block import Block, Failure, join_blocks, simulate_block
from framework.simulation.call import BLOCK
from framework.simulation.store import SimulationStore

SHARD_SECONDS = 20.0  # a killed process loses at most about this much work
SHARD_BYTES = 32 * 2**20
_PIECE_SECONDS = 0.2  # time between checks whether to stop
_NUM_REPORTED = 5
_MAX_REPEATS = 5  # of a piece that fails while signals arrive


@dataclass(frozen=True)
class Report:
    """The result of a range: simulations up to but not including `stop` are on disk."""

    start: int
    stop: int
    num_invalid: int
    failures: list[Failure]
    seconds: float


def unit_of(graph: Graph) -> int:
    """Return the number of simulations of which the bounds of ranges should be multiples."""
    return BLOCK if any(node.batched for node in graph.simulation_order) else 1


def cut(start: int, stop: int, size: int, unit: int) -> int:
    """Return the end of a range of about `size` from `start`: a multiple of `unit`, or `stop`."""
    end = max(start + size, start + unit) // unit * unit
    return stop if start + size >= stop else min(stop, end)


def simulate_shard(
    graph: Graph,
    store: SimulationStore,
    start: int,
    stop: int,
    should_stop: Callable[[], bool],
    num_signals: Callable[[], int] = lambda: 0,
) -> Report:
    """Simulate and commit the range, or the part that is finished when stopped or interrupted.

    `num_signals` returns how many signals have arrived. A signal may have killed a program that the simulator had
    started, so pieces that failed meanwhile are repeated; if the range is stopped, they are left for the next attempt.
    """
    began = time.monotonic()
    unit = size = unit_of(graph)
    blocks: list[Block] = []
    at = start
    stopping = False
    signals = num_signals()
    num_repeats = 0
    try:
        while at < stop and not stopping:
            end, piece_began = cut(at, stop, size, unit), time.monotonic()
            block = simulate_block(graph, store.seed, at, end)
            stopping = should_stop()
            signals_before = signals
            signals = num_signals()
            if stopping and block.has_failed:
                break
            if block.has_failed and signals != signals_before and num_repeats < _MAX_REPEATS:
                size, num_repeats = unit, num_repeats + 1  # a small piece, so that another signal costs less
                continue
            blocks.append(block)
            at, num_repeats = end, 0
            in_time = size * _PIECE_SECONDS / max(time.monotonic() - piece_began, 1e-6)
            size = max(1, int(min(2 * size, in_time)))
    finally:
        shard = join_blocks(blocks) if blocks else None
        if shard:
            store.commit(start, at, shard)
    num_valid = len(shard.index) if shard else 0
    failures = shard.failures[:_NUM_REPORTED] if shard else []
    return Report(start, at, at - start - num_valid, failures, time.monotonic() - began)
