"""Samples on disk: a directory per draw, with one `.npz` per node and a record of their source."""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from framework.config.schema import Config
from framework.errors import ConfigError
from framework.files import is_real_directory, make_own_directory, remove_unfinished, replace_file
from framework.graph import parameter_names
from framework.rundir.array_file import read_arrays, write_arrays
from framework.rundir.timestamps import now

SOURCE_FILE = "source.json"
OWN_KINDS = ("posterior", "predictive")  # directories that the run itself overwrites


def write_samples(
    directory: Path,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    labels: Mapping[str, Sequence[str]],
    source: Mapping[str, Any],
) -> None:
    """Write {node: {array name: array}} to `directory/<node>.npz`, replacing each file atomically and durably.

    A node's labels, if any, are stored as another array; `source` records the data behind the samples and is written
    last.
    """
    make_own_directory(directory)
    remove_unfinished(directory)
    with suppress(OSError):
        (directory / SOURCE_FILE).unlink()
    for node, content in arrays.items():
        named = {**content, "labels": np.array(labels[node], dtype=np.str_)} if labels.get(node) else content
        write_arrays(directory / f"{node}.npz", named)
    replace_file(directory / SOURCE_FILE, json.dumps(source, indent=1))


def names_of_parameters(arrays: Mapping[str, Mapping[str, np.ndarray]], config: Config) -> dict[str, list[str]]:
    """Return the names of each node's parameters; `arrays` contain samples (..., dim)."""
    return {
        node: parameter_names(node, content["samples"].shape[-1], config.graph[node].labels)
        for node, content in arrays.items()
    }


def read_samples(directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the samples that `write_samples` wrote; raises `CheckpointError` naming a damaged file."""
    if not is_real_directory(directory):
        there = ", ".join(sorted(path.name for path in directory.parent.glob("[!.]*"))) or "nothing"
        raise ConfigError(f"{directory}: contains no samples; {directory.parent} contains {there}")
    return {path.stem: read_arrays(path) for path in sorted(directory.glob("[!.]*.npz"))}


def next_directory(samples_dir: Path, kind: str) -> Path:
    """Return the first unused directory of `samples/<kind>` (unless only the run writes it), `<kind>-2`, `-3`, ..."""
    numbered = (f"{kind}-{number}" for number in itertools.count(2))
    names = numbered if kind in OWN_KINDS else itertools.chain([kind], numbered)
    return next(directory for name in names if not os.path.lexists(directory := samples_dir / name))


def source_of_samples(
    kind: str,
    config: Config,
    checkpoint: str | None,
    observed: Mapping[str, np.ndarray],
    files: Mapping[str, str | Path],
    num_samples: Mapping[str, int],
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the source of samples: checkpoint, seed, and the file and a digest of the values of each observed node.

    The digest is computed from the values as used, in float32, so that equal data in another file has the same one.
    """
    return {
        "kind": kind,
        "drawn_at": now(),
        "checkpoint": checkpoint,
        "seed": config.seed,
        "num_samples": dict(num_samples),
        "observed": {
            node: {
                "file": str(Path(files[node]).resolve()),
                "num_observations": len(values),
                "sha256_of_float32": hashlib.sha256(values.astype(np.float32).tobytes()).hexdigest(),
            }
            for node, values in observed.items()
        },
        "overrides": list(overrides),
    }


def describe_source(source: Mapping[str, Any]) -> str:
    """Return the source in one line for a terminal."""
    drawn = ", ".join(f"{count} of {node}" for node, count in source["num_samples"].items())
    given = ", ".join(
        f"{node} in {Path(observed['file']).name} ({observed['num_observations']} observation"
        f"{'s' if observed['num_observations'] != 1 else ''})"
        for node, observed in source["observed"].items()
    )
    of = f" given {given}, with checkpoint {source['checkpoint']}" if given else ""
    return f"{source['kind']}: {drawn}{of}, seed {source['seed']}"
