"""Simulations that were made elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from framework.errors import ConfigError, SimulationError
from framework.graph import Graph
from framework.simulation.draw import Block
from framework.simulation.shard import SHARD_BYTES
from framework.simulation.store import SimulationStore

_KEY = "simulation.from_file"


def imported_shapes(path: Path, graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return the event shapes in the file by node, for the store that it is imported into."""
    return {name: array.shape[1:] for name, array in _read(path, graph).items()}


def import_simulations(path: Path, graph: Graph, store: SimulationStore, max_invalid_fraction: float = 1.0) -> int:
    """Copy simulations from a `.npz` into the store and return their number, valid or not.

    The file holds an array (num_simulations, *event) for every node that training needs, called
    as the node. Rows with NaN or inf count as invalid. Raises `ConfigError` naming key and file,
    and `SimulationError` for too many invalid rows.
    """
    num_stored = sum(store.counts())
    if num_stored and not path.exists():  # what was imported stays, wherever the file has gone
        return num_stored
    arrays = _read(path, graph, tuple(store.event_shapes))
    for name, shape in store.event_shapes.items():
        if name not in arrays or arrays[name].shape[1:] != shape:
            raise ConfigError(f"{_KEY}={path}: expected an array '{name}' with event shape {shape}")
    num_simulations = len(next(iter(arrays.values())))
    size = max(1, SHARD_BYTES // store.dtype.itemsize)
    for first, last in store.missing(num_simulations):
        for start in range(first, last, size):
            stop = min(start + size, last)
            rows = {name: arrays[name][start:stop] for name in store.event_shapes}
            valid = np.all([np.isfinite(a).all(axis=tuple(range(1, a.ndim))) for a in rows.values()], axis=0)
            store.commit(start, stop, Block(np.arange(start, stop), rows, []).where(valid))
    _, num_invalid = store.counts()
    if num_invalid > max_invalid_fraction * num_simulations:
        raise SimulationError(
            f"simulation.max_invalid_fraction={max_invalid_fraction}: {num_invalid} of {num_simulations} simulations "
            f"in {path} have NaN or infinite values; clean the file, or raise this"
        )
    return num_simulations


def imported_names(path: Path) -> list[str]:
    """Return the names of the arrays in the file."""
    with _opened(path) as file:
        return list(file.files)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except FileNotFoundError:
        raise ConfigError(f"{_KEY}={path}: no such file; expected a .npz with an array for each node") from None
    except Exception as error:  # a damaged file makes NumPy raise nearly anything
        raise ConfigError(f"{_KEY}={path}: cannot be read as a .npz ({error}); write it with numpy.savez") from error


def _read(path: Path, graph: Graph, more: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the float32 arrays of the nodes that training needs, and of `more`."""
    with _opened(path) as file:
        wanted = dict.fromkeys([*graph.training_nodes, *more])
        found = {name: _as_float(file[name]) for name in wanted if name in file.files}
        names = ", ".join(file.files)
    for name in graph.training_nodes:
        if name not in found:
            raise ConfigError(f"{_KEY}={path}: no array '{name}', only {names or 'nothing'}; training needs it")
    lengths = {name: len(np.atleast_1d(array)) for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"{_KEY}={path}: numbers of simulations differ, {lengths}; expected the same in each array")
    return {name: _as_values(array, name, graph, path) for name, array in found.items()}


def _as_values(array: np.ndarray, name: str, graph: Graph, path: Path) -> np.ndarray:
    """Return values (num_simulations, *event); one number a simulation gets an axis of its own."""
    values = array.reshape(-1, 1) if array.ndim < 2 else array
    prior = graph.nodes[name].prior if name in graph.nodes else None
    if prior is not None and values.shape[1:] != (prior.dim,):
        expected = f"(num_simulations, {prior.dim})"
        raise ConfigError(f"{_KEY}={path}: '{name}' has shape {array.shape}, expected {expected} as in priors.{name}")
    return values


def _as_float(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large a number becomes inf, and is left out
        return array.astype(np.float32)
