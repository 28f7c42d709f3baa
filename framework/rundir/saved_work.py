"""The work that a run has saved so far, by the names and times of its files."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import MANIFEST, generation_paths, newest_generation
from framework.errors import CheckpointError, UnreadableError
from framework.files import list_directory


def holds_work(run_dir: Path) -> bool:
    """Return whether the run has a checkpoint or simulations; raises `UnreadableError` if that is unknown."""
    if any(map(_holds_files, generation_paths(run_dir / "checkpoints"))):
        return True
    try:
        return bool(shards(run_dir))
    except OSError as error:
        raise UnreadableError.of(run_dir / "simulations", error) from error


def shards(run_dir: Path) -> list[Path]:
    """Return the files named like simulations; raises `OSError` if they cannot be listed."""
    directory = run_dir / "simulations"
    try:
        return [directory / name for name in list_directory(directory) if name.endswith(".npy")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def last_checkpoint(run_dir: Path) -> float | None:
    """Return the commit time of the newest checkpoint in Unix seconds."""
    times = [_modified(path / MANIFEST) for path in generation_paths(run_dir / "checkpoints")]
    return max((t for t in times if t is not None), default=None)


def last_commit(run_dir: Path) -> float | None:
    """Return the commit time of the newest readable checkpoint or simulations in Unix seconds."""
    times: list[float | None] = []
    with suppress(CheckpointError):
        times.append(last_checkpoint(run_dir))
    with suppress(OSError):
        times += map(_modified, shards(run_dir))
    return max((t for t in times if t is not None), default=None)


def saved_state(run_dir: Path) -> list[Any]:
    """Return a summary that changes whenever new weights, simulations or samples are saved."""
    weights: dict[str, Any] = {}
    num_shards = 0
    with suppress(CheckpointError):  # the checkpoint cannot be read
        newest = newest_generation(run_dir / "checkpoints")
        weights = {name: entry for name, entry in newest.files.items() if name.endswith(".pth")} if newest else {}
    with suppress(OSError):  # the simulations cannot be read
        num_shards = len(shards(run_dir))
    num_samples = sum(len(names) for _, _, names in os.walk(run_dir / "samples"))
    return [weights, num_shards, num_samples]


def _holds_files(generation: Path) -> bool:
    try:
        return bool(list_directory(generation))
    except FileNotFoundError:  # removed since it was listed
        return False
    except OSError:  # an unreadable generation is not an empty one
        return True


def _modified(path: Path) -> float | None:
    with suppress(OSError):  # removed since it was listed
        return path.lstat().st_mtime
    return None
