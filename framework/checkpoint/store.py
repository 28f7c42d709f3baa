"""Durable generations of a run's state, each committed as a whole or not at all.

A generation is a directory of files and, written last, a manifest with the size and digest of each.
It gets its name by one rename when all of that is on disk; nothing older is deleted before.
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
    """The generations below one directory, the newest last; only one process at a time may commit.

    `keep` generations are kept, two at least: the newest, and the one to fall back on if it is damaged.
    With `compress`, files are about a tenth smaller and take several times longer to write.
    `constant` files are part of every generation. `check_owner` is called when a generation is about to get its name,
    and ends the process if the directory has become another's while this one stood still.
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
        self.constant, _ = _uncopied(constant or {}, {})
        self.keep = max(keep, 2)
        self.compress = compress
        self._check_owner = check_owner
        self._newest: Generation | None = None  # committed or verified by this object
        self._before: Generation | None = None  # the one before it, once that is known
        self._refused: dict[str, CheckpointError] = {}  # why, by name: those newer than what this object goes on with

    def generations(self) -> list[Generation]:
        """Return all committed generations whose manifest is whole, oldest first; emergencies are not among them.

        One that cannot be read is named in a warning; raises `UnreadableError` where there are only such.
        """
        found, unreadable = [], False
        for path in generation_paths(self.root):
            try:
                found.append(Generation.open(path))
            except UnreadableError as error:
                unreadable = True
                log.warning("⚠ %s; left out", error)
            except CheckpointError:
                continue
        if unreadable and not found:
            raise self._none_readable()
        return found

    def latest(self) -> Generation | None:
        """Return the newest generation that is whole, or None if there is none at all.

        All files are read of one that this object has neither committed nor verified. If one is damaged or cannot be
        read it is named in a warning and left where it is, and the one before it is taken, for as long as this object
        lives. Raises `CheckpointError` when no other is whole, since starting afresh would be a surprise.
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
                log.warning("⚠ %s; trying the checkpoint before it", error)
            else:
                self._newest, self._before = generation, None
                return generation
        refused, self._refused = self._refused, {}
        if any(isinstance(error, UnreadableError) for error in refused.values()):
            raise self._none_readable()
        if any(holds_files(path) for path in paths):
            raise CheckpointError(f"{self.root}: no checkpoint is whole; move the directory away to start afresh")
        return None

    def named(self, name: str) -> Generation:
        """Return a generation by its name, `emergency-…` too; raises `CheckpointError` unless it is whole."""
        if not NAME.fullmatch(name) or not os.path.lexists(self.root / name):
            names = ", ".join(path.name for kind in ("", EMERGENCY) for path in generation_paths(self.root, kind))
            raise CheckpointError(f"{self.root / name}: no such checkpoint, only {names or 'an empty directory'}")
        generation = Generation.open(self.root / name)
        generation.verify()
        return generation

    def commit(self, files: Mapping[str, Any], metadata: Mapping[str, Any], emergency: bool = False) -> Generation:
        """Write a new generation with `files` and the other files of the newest one, and return it.

        `files` maps paths such as `z/model.pth` to state dicts or, for `.json`, plain containers; `metadata`
        go into the manifest. A file that stays as it is in the newest generation is a hard link to the one before
        that, if it was so there too, or else a copy: two in a row never share a file, whose damage would be both's.
        An emergency is what could be saved of a crash: it stands beside the others, and `latest` never returns it.

        Raises `StateError` for what could not be read again, before anything is written, and `SaveError` (an
        `OSError`) where it cannot be written; then the older generations are as they were.
        """
        files, metadata = _uncopied({**self.constant, **files}, metadata)
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
        carried.tell(generation)
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
        """Write everything into `directory`, durably, and return the manifest."""
        entries = dict(carried.entries)
        with ExitStack() as stack:
            written = []
            for name, content in files.items():
                file = DurableFile(directory / name)
                stack.callback(file.close)
                write_content(file, name, content, self.compress)
                entries[name] = file.entry
                if not carried.link(name, file.entry):  # or else it never reaches the disk
                    written.append(file)
            for name in sorted(entries.keys() - files.keys()):
                if not carried.link(name, entries[name]):
                    written.append(carried.copy(name))
                    stack.callback(written[-1].close)
            for file in written:  # one after the other they would each wait for the disk
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
        """Return the last generation before the newest; its files are checked when they are linked."""
        if newest and not self._before:
            for path in reversed(generation_paths(self.root)):
                if path < newest.path and not self._before:
                    with suppress(CheckpointError):
                        self._before = Generation.open(path)
        return self._before

    def _point_latest(self, final: Path) -> None:
        """Replace the convenience link; nothing reads it."""
        temporary = temporary_beside(self.root / "latest")
        with suppress(OSError):
            temporary.symlink_to(final.name)
            temporary.replace(self.root / "latest")
        with suppress(OSError):  # if something else has that name
            temporary.unlink()

    def _prune(self, kind: str) -> None:
        """Delete what is older than the `keep` newest that are whole by themselves, as far as is known."""
        borrowing = {known.path.name for known in (self._newest, self._before) if known and known.borrows}
        unreadable = {name for name, error in self._refused.items() if isinstance(error, UnreadableError)}
        with suppress(UnreadableError):  # what was committed stands all the same
            prune(self.root, kind, self.keep, doubtful={*self._refused, *borrowing}, spared=unreadable)

    def _none_readable(self) -> UnreadableError:
        return UnreadableError(
            f"{self.root}: no checkpoint can be read now; nothing is known to be lost: "
            "look at the file system and its permissions, then try again"
        )


def _uncopied(files: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all as it is but for what Python has attached to tensors; raises `StateError`."""
    copier = TorchCopier(lambda tensor: tensor.detach() if is_plain(tensor) else None, copy_array=lambda array: array)
    return copy_files(files, metadata, copier)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:  # over NFS an answer may be lost and the repeated request fail
        if source.exists() or not (target / MANIFEST).is_file():
            raise
