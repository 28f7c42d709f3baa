"""Files that a new checkpoint takes over from the ones before it."""

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
    """Gives `directory`, in which a generation is being written, what stays as it is in the newest one.

    It links to the generation before the newest and to no other, so that no two in a row share a file.
    """

    def __init__(self, newest: Generation | None, before: Generation | None, directory: Path) -> None:
        self.entries: Mapping[str, Any] = newest.files if newest else {}
        self._newest, self._before, self._directory = newest, before, directory
        self._linked: list[str] = []

    def link(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Link a file in place of any that is there, if it is the same in both generations and whole in the older."""
        newest, before = self._newest, self._before
        if not newest or not before or not entry == newest.files.get(name) == before.files.get(name):
            return False
        if _is_one_file(newest.path / name, before.path / name):  # as version 0.2 has left them
            return False
        stamp = before.stamp(name)
        if stamp is None or not link(before.path / name, self._directory / name, stamp):
            return False
        self._linked.append(name)
        return True

    def copy(self, name: str) -> DurableFile:
        """Copy a file of the newest generation, from where it is whole; raises `SaveError` where it is nowhere."""
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

    def tell(self, generation: Generation) -> None:
        """Spare the new generation hashing what was just linked and is known to be whole."""
        if self._before:
            for name in self._linked:
                generation.know(name, self._before)


def _is_one_file(first: Path, second: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(first.lstat(), second.lstat())
    return False
