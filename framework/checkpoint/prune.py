"""Deletion of old generations and of unfinished files from killed attempts."""

import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from framework.checkpoint.manifest import Generation, generation_paths
from framework.errors import CheckpointError, UnreadableError
from framework.files import is_real_directory, remove_unfinished

_LEFTOVER = re.compile(r"((emergency-)?\d{8}|latest)\.tmp")


def prune(root: Path, kind: str, keep: int, doubtful: Collection[str], spared: Collection[str]) -> None:
    """Delete the generations of one kind that are older than the `keep` newest ones, not counting the `doubtful`.

    The `spared` and all unreadable ones may be intact, so they are kept. Raises `UnreadableError`.
    """
    paths = generation_paths(root, kind)
    good = [path for path in paths if path.name not in doubtful and holds_files(path)]
    for path in paths:
        if len(good) > keep and path < good[-keep] and path.name not in spared and not _is_unreadable(path):
            with suppress(OSError):  # renamed first: partly deleted, it would look damaged
                shutil.rmtree(path.rename(path.with_name(f"{path.name}.tmp")), ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Delete what killed attempts left half written or half deleted; raises `OSError`."""
    remove_unfinished(root)
    for path in root.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            if is_real_directory(path):
                shutil.rmtree(path)
            else:
                path.unlink()


def holds_files(path: Path) -> bool:
    """Return whether the path is not an empty directory, which a power cut can leave."""
    try:
        return not is_real_directory(path) or any(path.iterdir())
    except OSError:  # unknown: assume that it does
        return True


def _is_unreadable(path: Path) -> bool:
    try:
        Generation.open(path)
    except CheckpointError as error:
        return isinstance(error, UnreadableError)
    return False
