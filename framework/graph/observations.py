"""Observed and true values: read from files, then checked against the simulator's output shapes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from framework.errors import ConfigError
from framework.graph.graph import Graph
from framework.graph.labels import check_labels


def load_array(path: str | Path, key: str) -> np.ndarray:
    """Read the float32 array for config key `key`, which is `graph.<node>.observed` or `.truth`.

    `.npz` (the array named after the node, or the only one), `.npy` or `.csv` (numbers only, one
    row per observation). Raises `ConfigError` naming the key and the file.
    """
    path = Path(path)
    try:
        array = _read(path, key)
    except FileNotFoundError:
        raise ConfigError(f"{key}={path}: no such file; give the path of a .npz, .npy or .csv file") from None
    except ConfigError:
        raise
    except Exception as error:  # NumPy may raise almost any exception for a damaged file
        raise ConfigError(f"{key}={path}: cannot be read as numbers ({error}); rewrite it with numpy.save") from error
    if num_bad := int((~np.isfinite(array)).sum()):
        raise ConfigError(f"{key}={path}: {num_bad} of {array.size} values are NaN or infinite; expected numbers only")
    return array


def check_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """Return the graph with all observed and true values reshaped to (num_observations, *event).

    `shapes` are the event shapes by node. A single event may lack the leading axis, and single
    numbers may lack the trailing one. Also checks the labels against the shapes. Raises `ConfigError` naming the key.
    """
    for node in graph.nodes.values():
        if node.name in shapes:
            check_labels(node, shapes[node.name])
    return Graph(
        [
            replace(
                node,
                observed=_complete(node.observed, shapes.get(node.name), f"graph.{node.name}.observed"),
                truth=_complete(node.truth, shapes.get(node.name), f"graph.{node.name}.truth"),
            )
            for node in graph.nodes.values()
        ]
    )


def with_rows(array: np.ndarray, event: tuple[int, ...], key: str, what: str = "file") -> np.ndarray:
    """Reshape an array to (num_observations, *event); it may lack the leading axis or, for single numbers, the last.

    Raises `ConfigError` with the key and `what`, the source of an array of a wrong shape.
    """
    if array.shape[1:] == event and array.ndim:
        return array
    if array.shape == event:
        return array[None]
    if event == (1,) and array.ndim < 2:
        return array.reshape(-1, 1)
    expected = ", ".join(["num_observations", *map(str, event)])
    raise ConfigError(f"{key}: {what} has shape {array.shape}, expected ({expected}): a simulation has shape {event}")


def _complete(array: np.ndarray | None, event: tuple[int, ...] | None, key: str) -> np.ndarray | None:
    # A covariate is not simulated, so there is no shape to compare with.
    return array if array is None or event is None else with_rows(array, event, key)


def _read(path: Path, key: str) -> np.ndarray:
    match path.suffix:
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _as_float(_pick(arrays, path, key))
        case ".npy":
            return _as_float(np.load(path, allow_pickle=False))
        case ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float32)
    raise ConfigError(f"{key}={path}: unknown file type '{path.suffix}'; expected .npz, .npy or .csv")


def _pick(arrays: Any, path: Path, key: str) -> np.ndarray:
    name = key.split(".")[1]
    if name in arrays.files:
        return arrays[name]
    if len(arrays.files) == 1:
        return arrays[arrays.files[0]]
    raise ConfigError(f"{key}={path}: no array '{name}' in it, only {', '.join(arrays.files) or 'nothing'}; rename one")


def _as_float(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
