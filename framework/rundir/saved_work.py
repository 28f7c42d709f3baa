"""What a run has saved so far, as far as names and times of files tell."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import MANIFEST, generation_paths, newest_generation
from framework.errors import CheckpointError, UnreadableError
from framework.files import list_directory


def holds_work(run_dir: Path) -> bool:
    """Tell whether a checkpoint or a simulation is here; raises `UnreadableError` where nobody can tell."""
    if any(map(_holds_files, generation_paths(run_dir / "checkpoints"))):
        return True
    try:
        return bool(shards(run_dir))
    except OSError as error:
        raise UnreadableError.of(run_dir / "simulations", error) from error


def shards(run_dir: Path) -> list[Path]:
    """Return the files that look as if they held simulations; raises `OSError` where nothing is known of them."""
    directory = run_dir / "simulations"
    try:
        return [directory / name for name in list_directory(directory) if name.endswith(".npy")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def last_checkpoint(run_dir: Path) -> float | None:
    """Return when the newest checkpoint was committed, in Unix seconds."""
    times = [_modified(path / MANIFEST) for path in generation_paths(run_dir / "checkpoints")]
    return max((t for t in times if t is not None), default=None)


def last_commit(run_dir: Path) -> float | None:
    """Return when the newest checkpoint or simulations were committed, in Unix seconds, as far as can be read now."""
    times: list[float | None] = []
    with suppress(CheckpointError):
        times.append(last_checkpoint(run_dir))
    with suppress(OSError):
        times += map(_modified, shards(run_dir))
    return max((t for t in times if t is not None), default=None)


def saved_state(run_dir: Path) -> list[Any]:
    """Return what differs as soon as weights, simulations or samples are saved that were not there before."""
    weights: dict[str, Any] = {}
    num_shards = 0
    with suppress(CheckpointError):  # it cannot be read
        newest = newest_generation(run_dir / "checkpoints")
        weights = {name: entry for name, entry in newest.files.items() if name.endswith(".pth")} if newest else {}
    with suppress(OSError):  # nor can they
        num_shards = len(shards(run_dir))
    num_samples = sum(len(names) for _, _, names in os.walk(run_dir / "samples"))
    return [weights, num_shards, num_samples]


def _holds_files(generation: Path) -> bool:
    try:
        return bool(list_directory(generation))
    except FileNotFoundError:  # removed since it was listed
        return False
    except OSError:  # what cannot be looked at now is not nothing
        return True


def _modified(path: Path) -> float | None:
    with suppress(OSError):  # removed since it was listed
        return path.lstat().st_mtime
    return None
