"""Import of existing simulations from a file."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from framework.errors import ConfigError, DamagedError, ResumeRefusedError, SimulationError
from framework.graph import Graph
from framework.priors import Prior
from framework.records import read_record, write_record
from framework.simulation.block import Block
from framework.simulation.shard import SHARD_BYTES
from framework.simulation.shard_file import warn_once
from framework.simulation.store import SimulationStore

log = logging.getLogger(__name__)

_KEY = "simulation.from_file"
_FINGERPRINT = "imported.json"  # next to the shards: identifies the file from which they were imported
_AT_ONCE = 2**16  # rows


def imported_shapes(path: Path, graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return the event shapes of the nodes in the file, for the store into which it is imported."""
    return {name: array.shape[1:] for name, array in _read(path, graph).items()}


def import_simulations(
    path: Path, graph: Graph, store: SimulationStore, num_simulations: int, max_invalid_fraction: float = 1.0
) -> None:
    """Copy the first `num_simulations` rows of a `.npz` file, or all if there are fewer, into the store.

    The file holds an array (num_rows, *event) for every node that training needs, named after the node. Rows with
    NaN or inf, or outside a prior, are invalid. Copied rows remain in use if the file is moved; more rows are only
    copied from the same file. Raises `ConfigError` with key and file, `SimulationError` for too many invalid rows,
    before any is copied, and `ResumeRefusedError` if the file has changed.
    """
    num_stored, before = sum(store.counts()), _read_fingerprint(store.directory)
    is_complete = not store.missing(min(num_simulations, before.get("num_rows", num_simulations)))
    if num_stored and (is_complete or not (before or path.exists())):
        return
    arrays = _read(path, graph, tuple(store.event_shapes))
    for name, shape in store.event_shapes.items():
        if name not in arrays or arrays[name].shape[1:] != shape:
            raise ConfigError(f"{_KEY}={path}: expected an array '{name}' with event shape {shape}")
    fingerprint = _fingerprint_of({name: arrays[name] for name in store.event_shapes})
    if num_stored and not (before == fingerprint if before else _are_in(arrays, store)):
        raise ResumeRefusedError(
            f"{_KEY}={path}: has changed since {num_stored} simulations were imported from it; "
            "restore it, or start another run: name=..."
        )
    num_taken = min(num_simulations, fingerprint["num_rows"])
    if num_simulations != fingerprint["num_rows"]:
        asked = f"simulation.num_simulations={num_simulations}"
        taken = "all" if num_taken == fingerprint["num_rows"] else f"{num_taken} of the"
        log.info("importing %s %d simulations in %s (%s)", taken, fingerprint["num_rows"], path, asked)
    rows = {name: arrays[name][:num_taken] for name in store.event_shapes}
    valid = _valid_rows(rows, graph, path, max_invalid_fraction)
    write_record(store.directory / _FINGERPRINT, fingerprint)
    size = max(1, SHARD_BYTES // store.dtype.itemsize)
    for first, last in store.missing(num_taken):
        for start in range(first, last, size):
            stop = min(start + size, last)
            part = {name: values[start:stop] for name, values in rows.items()}
            store.commit(start, stop, Block(np.arange(start, stop), part, []).where(valid[start:stop]))


def _valid_rows(rows: Mapping[str, np.ndarray], graph: Graph, path: Path, max_invalid_fraction: float) -> np.ndarray:
    """Return a mask of finite simulations inside the priors; warn about others, or raise if there are too many."""
    valid = np.all([np.isfinite(a).all(axis=tuple(range(1, a.ndim))) for a in rows.values()], axis=0)
    num_rows, reasons = len(valid), []
    if num_bad := num_rows - int(valid.sum()):
        reasons.append(f"NaN or infinite: {num_bad}")
    for name, values in rows.items():
        if name not in graph.nodes or (prior := graph.nodes[name].prior) is None:
            continue
        finite = np.flatnonzero(valid)
        parts = torch.from_numpy(values[finite]).split(_AT_ONCE)
        outside = finite[np.concatenate([prior.is_outside(part).numpy() for part in parts])]
        valid[outside] = False
        if len(outside):
            row = outside[0]
            reasons.append(
                f"outside priors.{name}: {len(outside)}, such as row {row}: {_misfit(name, prior, values[row])}"
            )
    num_invalid = num_rows - int(valid.sum())
    found = f"{num_invalid} of {num_rows} simulations in {path} are invalid ({'; '.join(reasons)})"
    if num_invalid > max_invalid_fraction * num_rows:
        raise SimulationError(
            f"simulation.max_invalid_fraction={max_invalid_fraction}: {found}; fix the file or the prior, or raise this"
        )
    if num_invalid:
        log.warning("⚠ %s", found)
    return valid


def _misfit(name: str, prior: Prior, theta: np.ndarray) -> str:
    """Describe why theta is invalid: the parameter furthest outside its bounds, or all of theta if none is."""
    low, high = (bound.numpy() for bound in prior.bounds)
    beyond = np.maximum(low - theta, theta - high)
    at = int(beyond.argmax())
    if beyond[at] <= 0:
        return f"{name}={theta.tolist()}, where the density is zero"
    index = f"[{at}]" if len(theta) > 1 else ""
    expected = f"{low[at]:g} to {high[at]:g}" if low[at] < high[at] else f"{low[at]:g}"
    return f"{name}{index}={theta[at]:g}, expected {expected}"


def _fingerprint_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return an identification of the file's content."""
    digest = xxhash.xxh3_128()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return {"num_rows": len(next(iter(arrays.values()))), "digest": digest.hexdigest()}


def _read_fingerprint(directory: Path) -> dict[str, Any]:
    """Return the fingerprint of the file from which the simulations were imported, empty if it is unknown."""
    path = directory / _FINGERPRINT
    try:
        return _parse(path, read_record(path, of_version_02=[("num_rows", "digest")]))
    except FileNotFoundError:  # earlier versions wrote no fingerprint
        return {}
    except DamagedError as error:
        warn_once(f"{error}; the simulations themselves are compared with the file before importing more")
        return {}


def _parse(path: Path, content: Any) -> dict[str, Any]:
    if type(content.get("num_rows")) is not int or not isinstance(content.get("digest"), str):
        raise DamagedError(f"{path}: damaged (expected num_rows and digest)")
    return {"num_rows": content["num_rows"], "digest": content["digest"]}


def _are_in(arrays: Mapping[str, np.ndarray], store: SimulationStore) -> bool:
    """Return whether the file contains all stored simulations."""
    stored = store.load(list(store.event_shapes))
    index = stored.pop("index")
    return all(
        not len(index) or (index[-1] < len(arrays[name]) and np.array_equal(arrays[name][index], values))
        for name, values in stored.items()
    )


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
    except Exception as error:  # NumPy may raise almost any exception for a damaged file
        raise ConfigError(f"{_KEY}={path}: cannot be read as a .npz ({error}); write it with numpy.savez") from error


def _read(path: Path, graph: Graph, more: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the float32 arrays of the nodes in `more` and of those that training needs."""
    with _opened(path) as file:
        wanted = dict.fromkeys([*graph.training_nodes, *more])
        found = {name: _as_float(file[name]) for name in wanted if name in file.files}
        names = ", ".join(file.files)
    for name in graph.training_nodes:
        if name not in found:
            raise ConfigError(f"{_KEY}={path}: no array '{name}', only {names or 'nothing'}; training needs it")
    lengths = {name: len(np.atleast_1d(array)) for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"{_KEY}={path}: arrays have different numbers of rows, {lengths}; expected the same in all")
    return {name: _as_values(array, name, graph, path) for name, array in found.items()}


def _as_values(array: np.ndarray, name: str, graph: Graph, path: Path) -> np.ndarray:
    """Return values (num_simulations, *event); single numbers get an axis of length 1."""
    values = array.reshape(-1, 1) if array.ndim < 2 else array
    prior = graph.nodes[name].prior if name in graph.nodes else None
    if prior is not None and values.shape[1:] != (prior.dim,):
        expected = f"(num_simulations, {prior.dim})"
        raise ConfigError(f"{_KEY}={path}: '{name}' has shape {array.shape}, expected {expected} as in priors.{name}")
    return values


def _as_float(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a number that is too large becomes inf, and its row is dropped
        return array.astype(np.float32)
