"""Durable generations of a run's state, each committed atomically.

A generation is a directory of files and, written last, a manifest with the size and digest of each.
It is committed by one rename once everything is on disk; nothing older is deleted before that.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from framework.checkpoint.content import TorchCopier, copy_files, is_plain
from framework.checkpoint.durable_file import DurableFile
from framework.checkpoint.linked_files import LinkedFiles
from framework.checkpoint.manifest import EMERGENCY, MANIFEST, NAME, Generation, generation_paths, listed
from framework.checkpoint.prune import holds_files, prune, remove_leftovers
from framework.checkpoint.save_errors import SaveError
from framework.checkpoint.torch_files import write_content
from framework.errors import CheckpointError, UnreadableError
from framework.files import make_directory, sync_directory, temporary_beside
from framework.records import encode

log = logging.getLogger(__name__)


class CheckpointStore:
    """The generations in one directory, oldest first; only one process at a time may commit.

    `keep` generations are kept, at least two: the newest, and one to fall back on if it is damaged.
    With `compress`, files are about 10 % smaller and take several times longer to write.
    `constant` files are part of every generation. `check_owner` is called just before a commit, and exits
    the process if another one has taken the directory over while this one was suspended.
    """

    def __init__(
        self,
        root: Path | str,
        keep: int = 2,
        compress: bool = False,
        constant: Mapping[str, Any] | None = None,
        check_owner: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = Path(root)
        self.constant, _ = _without_copying(constant or {}, {})
        self.keep = max(keep, 2)
        self.compress = compress
        self._check_owner = check_owner
        self._newest: Generation | None = None  # committed or verified by this object
        self._before: Generation | None = None  # the one before it, once known
        self._refused: dict[str, CheckpointError] = {}  # errors of unusable generations newer than `_newest`, by name

    def generations(self) -> list[Generation]:
        """Return all committed generations with an intact manifest, oldest first, without emergency checkpoints.

        Unreadable ones are reported in a warning; raises `UnreadableError` if there are no others.
        """
        found = []
        unreadable = False
        for path in generation_paths(self.root):
            try:
                found.append(Generation.open(path))
            except UnreadableError as error:
                unreadable = True
                log.warning("⚠ %s; skipped", error)
            except CheckpointError:
                continue
        if unreadable and not found:
            raise self._none_readable()
        return found

    def latest(self) -> Generation | None:
        """Return the newest intact generation, or None if there are no generations.

        A generation that this object has neither committed nor verified is read in full. If it is damaged or
        unreadable, a warning reports it, it is left in place, and the one before it is used for the lifetime of this
        object. Raises `CheckpointError` if none is intact, because starting from scratch would be a surprise.
        """
        paths = [path for path, _ in listed(self.root)]
        for path in reversed(paths):
            if self._newest and path == self._newest.path:
                return self._newest
            if path.name in self._refused:
                continue
            try:
                generation = Generation.open(path)
                generation.verify()
            except CheckpointError as error:
                self._refused[path.name] = error
                log.warning("⚠ %s; trying the previous checkpoint", error)
            else:
                self._newest, self._before = generation, None
                return generation
        refused, self._refused = self._refused, {}
        if any(isinstance(error, UnreadableError) for error in refused.values()):
            raise self._none_readable()
        if any(holds_files(path) for path in paths):
            raise CheckpointError(
                f"{self.root}: no checkpoint is intact; move the directory away to start from scratch"
            )
        return None

    def named(self, name: str) -> Generation:
        """Return a generation by name, also `emergency-…`; raises `CheckpointError` unless it is intact."""
        if not NAME.fullmatch(name) or not os.path.lexists(self.root / name):
            names = ", ".join(path.name for kind in ("", EMERGENCY) for path in generation_paths(self.root, kind))
            raise CheckpointError(f"{self.root / name}: no such checkpoint; available: {names or 'none'}")
        generation = Generation.open(self.root / name)
        generation.verify()
        return generation

    def commit(self, files: Mapping[str, Any], metadata: Mapping[str, Any], emergency: bool = False) -> Generation:
        """Write a new generation with `files` and the other files of the newest one, and return it.

        `files` maps paths such as `z/model.pth` to state dicts or, for `.json`, plain containers; `metadata`
        goes into the manifest. A file that is unchanged since the newest generation is hard-linked from the one
        before that, if it is the same there, or else copied: consecutive generations never share a file, so damage
        affects only one. An `emergency` generation is what could be saved after a crash; `latest` never returns it.

        Raises `StateError` for what could not be restored, before anything is written, and `SaveError` (an
        `OSError`) if writing fails; older generations are then unchanged.
        """
        files, metadata = _without_copying({**self.constant, **files}, metadata)
        try:
            return self._commit(files, metadata, EMERGENCY if emergency else "")
        except SaveError:
            raise
        except OSError as error:
            newest = self._newest.path.name if self._newest else None
            raise SaveError.not_saved(self.root, error, newest) from error

    def _commit(self, files: Mapping[str, Any], metadata: Mapping[str, Any], kind: str) -> Generation:
        make_directory(self.root)
        remove_leftovers(self.root)
        newest = self.latest()
        numbers = [int(match[2]) for path in self.root.iterdir() if (match := NAME.fullmatch(path.name))]
        final = self.root / f"{kind}{max(numbers, default=0) + 1:08d}"
        temporary = self.root / f"{final.name}.tmp"
        temporary.mkdir()
        try:
            carried = LinkedFiles(newest, self._one_before(newest), temporary)
            manifest = self._write(temporary, files, metadata, carried)
            self._check_owner()
            _rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        generation = Generation(final, manifest)
        carried.mark_verified(generation)
        if not kind:
            self._newest, self._before = generation, newest
        try:
            sync_directory(self.root)
        except OSError as error:
            raise SaveError.durability_unknown(final, error) from error
        if not kind:
            self._point_latest(final)
        self._prune(kind)
        return generation

    def _write(
        self, directory: Path, files: Mapping[str, Any], metadata: Mapping[str, Any], carried: LinkedFiles
    ) -> dict[str, Any]:
        """Write everything to `directory` durably, and return the manifest."""
        entries = dict(carried.entries)
        with ExitStack() as stack:
            written = []
            for name, content in files.items():
                file = DurableFile(directory / name)
                stack.callback(file.close)
                write_content(file, name, content, self.compress)
                entries[name] = file.entry
                if not carried.link(name, file.entry):  # linked files need not be written
                    written.append(file)
            for name in sorted(entries.keys() - files.keys()):
                if not carried.link(name, entries[name]):
                    written.append(carried.copy(name))
                    stack.callback(written[-1].close)
            for file in written:  # after all are written: syncing each in turn would wait for the disk each time
                file.sync()
        manifest = {**metadata, "files": dict(sorted(entries.items()))}
        self._write_manifest(directory, manifest)
        for path in sorted({p.parent for p in directory.rglob("*")}):
            sync_directory(path)
        return manifest

    def _write_manifest(self, directory: Path, manifest: dict[str, Any]) -> None:
        file = DurableFile(directory / MANIFEST)
        try:
            file.write(encode(manifest))
            file.sync()
        finally:
            file.close()

    def _one_before(self, newest: Generation | None) -> Generation | None:
        """Return the last generation before the newest; its files are verified when they are linked."""
        if newest and not self._before:
            for path in reversed(generation_paths(self.root)):
                if path < newest.path and not self._before:
                    with suppress(CheckpointError):
                        self._before = Generation.open(path)
        return self._before

    def _point_latest(self, final: Path) -> None:
        """Replace the link `latest`, a convenience for users that no code reads."""
        temporary = temporary_beside(self.root / "latest")
        with suppress(OSError):
            temporary.symlink_to(final.name)
            temporary.replace(self.root / "latest")
        with suppress(OSError):  # if something else has that name
            temporary.unlink()

    def _prune(self, kind: str) -> None:
        """Delete generations older than the `keep` newest that are known to be intact without borrowed files."""
        borrowing = {known.path.name for known in (self._newest, self._before) if known and known.borrows}
        unreadable = {name for name, error in self._refused.items() if isinstance(error, UnreadableError)}
        with suppress(UnreadableError):  # the commit has succeeded nevertheless
            prune(self.root, kind, self.keep, doubtful={*self._refused, *borrowing}, spared=unreadable)

    def _none_readable(self) -> UnreadableError:
        return UnreadableError(
            f"{self.root}: no checkpoint can be read now, though they may be intact: "
            "check the file system and its permissions, then try again"
        )


def _without_copying(files: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content without copying it, except that tensors lose Python attributes; raises `StateError`."""
    copier = TorchCopier(lambda tensor: tensor.detach() if is_plain(tensor) else None, copy_array=lambda array: array)
    return copy_files(files, metadata, copier)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:  # over NFS, a reply may be lost and the repeated request may fail
        if source.exists() or not (target / MANIFEST).is_file():
            raise
