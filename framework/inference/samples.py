"""Samples on disk: a directory per draw, one `.npz` per node."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from framework.errors import ConfigError


def write_samples(directory: Path, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write {node: {array name: array}} to `directory/<node>.npz`, each file replaced as a whole."""
    directory.mkdir(parents=True, exist_ok=True)
    for node, content in arrays.items():
        temporary = directory / f".{node}.tmp.npz"
        with temporary.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / f"{node}.npz")


def read_samples(directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read what `write_samples` has written."""
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no samples here")
    found = {}
    for path in sorted(directory.glob("[!.]*.npz")):
        with np.load(path) as file:
            found[path.stem] = {name: file[name] for name in file.files}
    return found


def next_directory(samples_dir: Path, kind: str) -> Path:
    """Return `samples/<kind>`, or the first free of `samples/<kind>-2`, `-3`, ..."""
    directory, number = samples_dir / kind, 1
    while directory.exists():
        number += 1
        directory = samples_dir / f"{kind}-{number}"
    return directory
