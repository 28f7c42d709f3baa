"""Files that a new checkpoint carries over unchanged from earlier ones."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.checkpoint.durable_file import DurableFile, copy
from framework.checkpoint.manifest import Generation
from framework.checkpoint.save_errors import SaveError
from framework.checkpoint.verified_files import link
from framework.errors import CheckpointError, DamagedError


class LinkedFiles:
    """Unchanged files of the newest generation, for a new one that is being written in `directory`.

    Hard links point only to the generation before the newest, so that no two consecutive ones share a file.
    """

    def __init__(self, newest: Generation | None, before: Generation | None, directory: Path) -> None:
        self.entries: Mapping[str, Any] = newest.files if newest else {}
        self._newest = newest
        self._before = before
        self._directory = directory
        self._linked: list[str] = []

    def link(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Hard-link a file, replacing any existing one, if both generations have it and the older copy is intact."""
        newest, before = self._newest, self._before
        if not newest or not before or not entry == newest.files.get(name) == before.files.get(name):
            return False
        if _is_one_file(newest.path / name, before.path / name):  # as written by version 0.2
            return False
        stamp = before.stamp(name)
        if stamp is None or not link(before.path / name, self._directory / name, stamp):
            return False
        self._linked.append(name)
        return True

    def copy(self, name: str) -> DurableFile:
        """Copy a file of the newest generation from any intact copy; raises `SaveError` if there is none."""
        assert self._newest is not None
        try:
            with self._newest.reading(name) as (path, source):
                file = copy(source, self._directory / name)
            if file.entry != self.entries[name]:
                file.close()
                raise DamagedError(f"{path}: damaged (its digest is not the one in manifest.json)")
        except CheckpointError as error:
            raise SaveError.not_carried_over(self._newest.path.parent, error) from error
        return file

    def mark_verified(self, generation: Generation) -> None:
        """Mark the linked files, which have been verified, as such in the new generation: they are not hashed again."""
        if self._before:
            for name in self._linked:
                generation.mark_verified(name, self._before)


def _is_one_file(first: Path, second: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(first.lstat(), second.lstat())
    return False
