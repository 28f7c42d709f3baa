"""Simulation of one node, with random streams that depend only on (seed, node, index)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from framework.errors import SimulationError
from framework.graph import Node
from framework.rng import seed_sequence, torch_generator

BLOCK = 256  # batched simulators and priors are called for this many consecutive simulations at once
_MESSAGE_LENGTH = 200


@dataclass(frozen=True)
class Draws:
    """Values (len(rows), *event) of one node, and the errors of invalid values by position."""

    values: np.ndarray
    errors: dict[int, str]
    fell_back: bool = False  # the rows were drawn one by one, because the call for the whole batch raised


def draw_prior(node: Node, rows: np.ndarray, seed: int) -> Draws:
    """Draw the block of BLOCK simulations that contains `rows`, and return those at `rows`."""
    assert node.prior is not None
    _reseed(seed_sequence(seed, node.name, "block", int(rows[0]) // BLOCK))
    return _checked(node.prior.sample(BLOCK).numpy()[rows % BLOCK], {})


def draw_batched(node: Node, parents: Sequence[np.ndarray], rows: np.ndarray, seed: int) -> Draws:
    """Call a batched simulator once for all rows of a block, or once per row if that raises."""
    sequence = seed_sequence(seed, node.name, "block", int(rows[0]) // BLOCK)
    try:
        values = _call(node, parents, sequence)
    except Exception:  # one bad row must not invalidate the others
        return replace(draw_rows(node, parents, rows, seed), fell_back=True)
    return _checked(_batch_of(values, len(rows), node), {})


def draw_rows(node: Node, parents: Sequence[np.ndarray], rows: np.ndarray, seed: int) -> Draws:
    """Call a simulator once per row; a batched one gets batches of 1."""
    path = ("row",) if node.batched else ()
    values = np.zeros((len(rows), 0), np.float32)
    errors: dict[int, str] = {}
    for position, row in enumerate(rows.tolist()):
        at = slice(position, position + 1) if node.batched else position
        try:
            value = _call(node, [parent[at] for parent in parents], seed_sequence(seed, node.name, *path, row))
        except Exception as error:
            errors[position] = _one_line(f"{type(error).__name__}: {error}")
            continue
        value = _batch_of(value, 1, node)[0] if node.batched else np.atleast_1d(value)
        if len(errors) == position:  # the first value defines the shape
            values = np.zeros((len(rows), *value.shape), np.float32)
        if value.shape != values.shape[1:]:
            raise SimulationError(
                f"graph.{node.name}.simulator: simulation {row} has shape {value.shape}, an earlier one "
                f"{values.shape[1:]}; return the same shape every time"
            )
        values[position] = value
    return _checked(values, errors)


def _call(node: Node, parents: Sequence[np.ndarray], sequence: np.random.SeedSequence) -> np.ndarray:
    """Call the simulator at the start of the stream, with copies of its inputs, and copy its output."""
    assert node.simulator is not None
    _reseed(sequence)
    keywords: dict[str, Any] = {}
    if "rng" in node.random_keywords:
        keywords["rng"] = np.random.default_rng(sequence)
    if "generator" in node.random_keywords:
        keywords["generator"] = torch_generator(sequence)
    inputs: list[Any] = [parent.copy() for parent in parents]  # a simulator may change its arguments in place
    if node.backend == "torch":
        inputs = [torch.from_numpy(value) for value in inputs]
    return _to_float32(node.simulator(*inputs, **keywords))


def _to_float32(value: Any) -> np.ndarray:
    """Return a copy, because a simulator may reuse its output array; numbers that are too large become inf."""
    if value is None:
        raise TypeError("the simulator returned None")
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", torch.float32, copy=True).numpy()
    with np.errstate(over="ignore"):
        return np.array(value, dtype=np.float32)


def _batch_of(values: np.ndarray, size: int, node: Node) -> np.ndarray:
    if values.ndim == 0 or len(values) != size:
        raise SimulationError(
            f"graph.{node.name}.simulator: returned shape {values.shape} for a batch of {size}, expected "
            f"({size}, ...); for one simulation per call set graph.{node.name}.batched=false"
        )
    return values.reshape(size, 1) if values.ndim == 1 else values


def _checked(values: np.ndarray, errors: dict[int, str]) -> Draws:
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    for position in np.flatnonzero(~finite).tolist():
        errors[position] = "NaN, infinite, or too large for a float32"
    return Draws(values, errors)


def _one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _MESSAGE_LENGTH else f"{line[:_MESSAGE_LENGTH]}..."


def _reseed(sequence: np.random.SeedSequence) -> None:
    """Set the global Python, NumPy and torch generators to the start of the stream."""
    python_seed, numpy_seed = sequence.generate_state(2).tolist()
    torch_seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    if _has_accelerator():
        torch.manual_seed(torch_seed)
    else:  # a hundred times faster than torch.manual_seed, which may take as long as a simulation
        torch.default_generator.manual_seed(torch_seed)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
