"""Named arrays in one `.npz` file of a run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from framework.errors import DamagedError
from framework.files import replacing
from framework.records import opened


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file atomically and durably; raises `OSError`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays; raises `FileNotFoundError`, `DamagedError` or `UnreadableError`."""
    with opened(path) as opened_file:
        try:
            with np.load(opened_file, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except OSError:
            raise
        except Exception as error:  # NumPy raises many kinds of errors for a damaged file
            raise DamagedError(f"{path}: damaged ({error})") from error
