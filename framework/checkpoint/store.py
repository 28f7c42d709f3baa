"""Durable generations of a run's state, each committed as a whole or not at all.

A generation is a directory of files and, written last, a manifest with the size and digest of each.
It gets its name by one rename when all of that is on disk; nothing older is deleted before.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from framework.checkpoint.content import TorchCopier, copy_files, is_plain
from framework.checkpoint.errors import SaveError
from framework.checkpoint.files import DurableFile, link
from framework.checkpoint.manifest import EMERGENCY, MANIFEST, NAME, Generation, generation_paths, manifest_bytes
from framework.checkpoint.torch_files import write_content
from framework.errors import CheckpointError
from framework.files import make_directory, sync_directory

log = logging.getLogger(__name__)

_LEFTOVER = re.compile(r"((emergency-)?\d{8}|latest)\.tmp")


class CheckpointStore:
    """The generations below one directory, the newest last; only one process at a time may commit.

    `keep` generations are kept, two at least: the newest, and the one to fall back on if it is damaged.
    With `compress`, files are about a tenth smaller and take several times longer to write.
    `constant` files are part of every generation.
    """

    def __init__(
        self, root: Path | str, keep: int = 2, compress: bool = False, constant: Mapping[str, Any] | None = None
    ) -> None:
        self.root = Path(root)
        self.constant, _ = _uncopied(constant or {}, {})
        self.keep = max(keep, 2)
        self.compress = compress
        self._newest: Generation | None = None  # committed or verified by this object
        self._damaged: set[str] = set()

    def generations(self) -> list[Generation]:
        """Return all committed generations whose manifest can be read, oldest first; emergencies are not among them."""
        found = []
        for path in generation_paths(self.root):
            with suppress(CheckpointError):
                found.append(Generation.open(path))
        return found

    def latest(self) -> Generation | None:
        """Return the newest generation that is whole, or None if there is none at all.

        All its files are read. A damaged one is named in a warning, left where it is, and the one before it
        is taken. Raises `CheckpointError` when none is whole, since starting afresh would be a surprise.
        """
        paths = generation_paths(self.root)
        for path in reversed(paths):
            try:
                generation = Generation.open(path)
                generation.verify()
            except CheckpointError as error:
                self._damaged.add(path.name)
                log.warning("⚠ %s; trying the checkpoint before it", error)
            else:
                self._newest = generation
                return generation
        if any(_holds_files(path) for path in paths):
            raise CheckpointError(f"{self.root}: no checkpoint is whole; move the directory away to start afresh")
        return None

    def named(self, name: str) -> Generation:
        """Return a generation by its name, `emergency-…` too; raises `CheckpointError` unless it is whole."""
        if not NAME.fullmatch(name) or not (self.root / name).is_dir():
            names = ", ".join(path.name for kind in ("", EMERGENCY) for path in generation_paths(self.root, kind))
            raise CheckpointError(f"{self.root / name}: no such checkpoint, only {names or 'an empty directory'}")
        generation = Generation.open(self.root / name)
        generation.verify()
        return generation

    def commit(self, files: Mapping[str, Any], facts: Mapping[str, Any], emergency: bool = False) -> Generation:
        """Write a new generation with `files` and the other files of the newest one, and return it.

        `files` maps paths such as `z/model.pth` to state dicts or, for `.json`, plain containers; `facts`
        go into the manifest. Files of the newest generation that are not named, or would be written
        with the bytes that they have, are carried over as hard links. An emergency is what could be
        saved of a crash: it stands beside the others, and `latest` never returns it.

        Raises `StateError` for what could not be read again, before anything is written, and `SaveError` (an
        `OSError`) where it cannot be written; then the older generations are as they were.
        """
        files, facts = _uncopied({**self.constant, **files}, facts)
        try:
            return self._commit(files, facts, EMERGENCY if emergency else "")
        except SaveError:
            raise
        except OSError as error:
            newest = self._newest.path.name if self._newest else None
            raise SaveError.not_saved(self.root, error, newest) from error

    def _commit(self, files: Mapping[str, Any], facts: Mapping[str, Any], kind: str) -> Generation:
        make_directory(self.root)
        self._remove_leftovers()
        newest = self._newest_known()
        numbers = [int(match[2]) for path in self.root.iterdir() if (match := NAME.fullmatch(path.name))]
        final = self.root / f"{kind}{max(numbers, default=0) + 1:08d}"
        temporary = self.root / f"{final.name}.tmp"
        try:
            temporary.mkdir()
            manifest = self._write(temporary, files, facts, newest)
            _rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        generation = Generation(final, manifest)
        if not kind:
            self._newest = generation
        try:
            sync_directory(self.root)
        except OSError as error:
            raise SaveError.durability_unknown(final, error) from error
        if not kind:
            self._point_latest(final)
        self._prune(kind)
        return generation

    def _write(
        self, directory: Path, files: Mapping[str, Any], facts: Mapping[str, Any], newest: Generation | None
    ) -> dict[str, Any]:
        """Write everything into `directory`, durably, and return the manifest."""
        known = newest.files if newest else {}
        entries = {name: entry for name, entry in known.items() if name not in files}
        with ExitStack() as stack:
            written = []
            for name, content in files.items():
                file = DurableFile(directory / name)
                stack.callback(file.close)
                write_content(file, name, content, self.compress)
                entries[name] = file.entry
                if known.get(name) == file.entry:  # it never reaches the disk
                    (directory / name).unlink()
                else:
                    written.append(file)
            for file in written:  # one after the other they would each wait for the disk
                file.sync()
        for name, entry in known.items():
            if entries[name] == entry and newest:
                link(newest.path / name, directory / name)
        manifest = {**facts, "files": dict(sorted(entries.items()))}
        self._write_manifest(directory, manifest)
        for path in sorted({p.parent for p in directory.rglob("*")}):
            sync_directory(path)
        return manifest

    def _write_manifest(self, directory: Path, manifest: dict[str, Any]) -> None:
        file = DurableFile(directory / MANIFEST)
        try:
            file.write(manifest_bytes(manifest))
            file.sync()
        finally:
            file.close()

    def _newest_known(self) -> Generation | None:
        """Return the newest generation without reading it again, if this object knows it."""
        paths = [path for path in generation_paths(self.root) if path.name not in self._damaged]
        if self._newest and paths and paths[-1] == self._newest.path:
            return self._newest
        return self.latest()

    def _point_latest(self, final: Path) -> None:
        """Replace the convenience link; nothing reads it."""
        link_path = self.root / "latest.tmp"
        with suppress(OSError):
            link_path.symlink_to(final.name)
            link_path.replace(self.root / "latest")

    def _prune(self, kind: str) -> None:
        """Delete what is older than the `keep` newest that are not known to be damaged."""
        good = [
            path for path in generation_paths(self.root, kind) if path.name not in self._damaged and _holds_files(path)
        ]
        for path in generation_paths(self.root, kind):
            if len(good) > self.keep and path < good[-self.keep]:
                with suppress(OSError):  # under its own name it would look damaged while it goes
                    shutil.rmtree(path.rename(path.with_name(f"{path.name}.tmp")), ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Delete what killed attempts had begun to write or to delete."""
        for path in self.root.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                if path.is_symlink():
                    path.unlink()
                else:
                    shutil.rmtree(path)


def _uncopied(files: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all as it is but for what Python has attached to tensors; raises `StateError`."""
    copier = TorchCopier(lambda tensor: tensor.detach() if is_plain(tensor) else None, copy_array=lambda array: array)
    return copy_files(files, facts, copier)


def _holds_files(path: Path) -> bool:
    return any(path.iterdir())


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:  # over NFS an answer may be lost and the repeated request fail
        if source.exists() or not (target / MANIFEST).is_file():
            raise
