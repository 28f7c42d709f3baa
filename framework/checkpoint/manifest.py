"""A committed generation: what its manifest says, whether that is true, and its contents.

Needs torch only to read a file that is in torch's format. Whoever wrote the directory is not trusted: names are
plain, nothing is opened through a link, and a file counts once its digest is the manifest's.
"""

import logging
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from framework.checkpoint.durable_file import DIGEST, is_json
from framework.checkpoint.verified_files import Stamp, VerifiedFiles, require_directories, telling
from framework.errors import CheckpointError, DamagedError, UnreadableError
from framework.files import retry
from framework.records import decode, parse_json, read_bytes

log = logging.getLogger(__name__)

T = TypeVar("T")
MANIFEST = "manifest.json"
RESERVED = frozenset({"files", DIGEST})  # its entries beside the caller's metadata
EMERGENCY = "emergency-"  # how the name of what could be saved of a crash begins
NAME = re.compile(rf"({EMERGENCY})?(\d{{8}})", re.ASCII)
_NOWHERE = frozenset({"", ".", ".."})  # parts of a path that would lead out of the checkpoint
_DEEPEST = 8  # directories and a file
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Generation:
    """One committed checkpoint: its directory and manifest, which is the caller's metadata and the files.

    Each file is hashed when it is first read, and not again while it stays as it was. One that is damaged or cannot
    be read is taken from where the same bytes stand whole, and a warning says so.
    """

    path: Path
    manifest: dict[str, Any]
    _whole: VerifiedFiles = field(default_factory=VerifiedFiles, compare=False, repr=False)
    _borrowed: dict[str, tuple[Path, str]] = field(default_factory=dict, compare=False, repr=False)  # from where

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a generation's manifest; raises `DamagedError`, or `UnreadableError`."""
        with telling(path / MANIFEST):
            retry(lambda: require_directories(path, MANIFEST))
            manifest = decode(path / MANIFEST, read_bytes(path / MANIFEST))
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(is_file_name(name) and _is_entry(files[name]) for name in files):
            raise DamagedError(f"{path / MANIFEST}: damaged (its files are not what a checkpoint has)")
        return cls(path, manifest)

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and digest of each file, by its path below the generation."""
        return self.manifest["files"]

    @property
    def committed_at(self) -> float:
        """When it was committed, in Unix seconds; raises `CheckpointError` if it is gone by now."""
        with telling(self.path / MANIFEST):
            return retry(lambda: (self.path / MANIFEST).lstat().st_mtime)

    @property
    def borrows(self) -> bool:
        """Tell whether a file had to be taken from elsewhere, as far as files have been read."""
        return bool(self._borrowed)

    def fact(self, name: str, kind: type[T]) -> T:
        """Return one of the caller's metadata, with `a.b` the b within a, of a type of JSON; floats are finite.

        Raises `DamagedError` where it is missing or of another type.
        """
        value: Any = self.manifest
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**53 else math.inf
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise DamagedError(f"{self.path / MANIFEST}: damaged ({name} is not a {kind.__name__})")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a fact that is a list of text; raises `DamagedError`."""
        values: list[Any] = self.fact(name, list)
        if not all(isinstance(value, str) for value in values):
            raise DamagedError(f"{self.path / MANIFEST}: damaged ({name} is not a list of text)")
        return values

    def load(self, name: str) -> Any:
        """Read one file, checking its digest first; `.json` or what torch.save writes. Raises `CheckpointError`."""
        if name not in self.files:
            raise CheckpointError(f"{self.path / name}: not in this checkpoint")

        def read() -> Any:
            with self.reading(name) as (path, file):
                if is_json(name):
                    return parse_json(path, file.read())
                from framework.checkpoint.torch_files import read_torch  # torch, which nothing else here needs

                return read_torch(path, file)

        with telling(self.path / name):
            return retry(read)

    def verify(self) -> None:
        """Read every file; raises `CheckpointError` for the first that is not what the manifest says."""
        for name in self.files:
            with self.reading(name):
                pass

    @contextmanager
    def reading(self, name: str) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a file that is whole; yield where it lies, which may be elsewhere, and what was opened there."""
        directory, name_there = self._borrowed.get(name, (self.path, name))
        try:
            descriptor, _ = self._whole.open(directory, name_there, self.files[name])
        except CheckpointError as error:
            directory, name_there, descriptor = self._borrow(name, error)
        with open(descriptor, "rb") as file:  # noqa: PTH123  # pathlib knows no descriptors
            yield directory / name_there, file

    def stamp(self, name: str) -> Stamp | None:
        """Return what tells this generation's own file from all others, or None unless it is whole."""
        try:
            descriptor, stamp = self._whole.open(self.path, name, self.files[name])
        except CheckpointError:
            return None
        os.close(descriptor)
        return stamp

    def know(self, name: str, source: "Generation") -> None:
        """Take over from `source` that a file is whole, which is the same there under another path."""
        self._whole.know(self.path / name, source._whole, source.path / name)

    def _borrow(self, name: str, error: CheckpointError) -> tuple[Path, str, int]:
        """Open the same bytes where they stand whole, or raise the `error` that the own file has met with."""
        for directory, name_there in self._same_as(name):
            with suppress(CheckpointError):
                descriptor, _ = self._whole.open(directory, name_there, self.files[name])
                self._borrowed[name] = directory, name_there
                log.warning("⚠ %s; taken from %s, which holds the same", error, directory / name_there)
                return directory, name_there, descriptor
        raise error

    def _same_as(self, name: str) -> Iterator[tuple[Path, str]]:
        """Find the files that should hold the same bytes: here, then in other generations, the newest first."""
        entry = self.files[name]
        yield from ((self.path, other) for other in self.files if other != name and self.files[other] == entry)
        for kind in ("", EMERGENCY):
            for path in reversed(generation_paths(self.path.parent, kind)):
                with suppress(CheckpointError):
                    files = Generation.open(path).files if path != self.path else {}
                    yield from ((path, other) for other in files if files[other] == entry)


def generation_paths(root: Path, kind: str = "") -> list[Path]:
    """Return the directories of the generations below `root`, oldest first; `kind` is "" or "emergency-".

    Raises `UnreadableError`.
    """
    return [path for path, is_directory in listed(root, kind) if is_directory]


def newest_generation(root: Path) -> Generation | None:
    """Return the newest generation whose manifest is whole; its files are checked when they are loaded."""
    for path in reversed(generation_paths(root)):
        with suppress(CheckpointError):
            return Generation.open(path)
    return None


def listed(root: Path, kind: str = "") -> list[tuple[Path, bool]]:
    """Return what has the name of a generation, oldest first, and whether it is a directory and not a link to one.

    Raises `UnreadableError`.
    """

    def read() -> list[tuple[str, bool]]:
        with os.scandir(root) as entries:
            found = [(entry, NAME.fullmatch(entry.name)) for entry in entries]
            return [
                (e.name, e.is_dir(follow_symlinks=False)) for e, match in found if match and (match[1] or "") == kind
            ]

    try:
        return [(root / name, is_directory) for name, is_directory in sorted(retry(read))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableError.of(root, error) from error


def is_file_name(name: Any) -> bool:
    """Tell whether a file of a checkpoint may have this name: a plain path below it, that prints as it is."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or name == MANIFEST:
        return False
    parts = name.split("/")
    return len(parts) <= _DEEPEST and _NOWHERE.isdisjoint(parts)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"size", DIGEST}:
        return False
    size, digest = entry["size"], entry[DIGEST]
    return type(size) is int and size >= 0 and isinstance(digest, str) and bool(_HEX.fullmatch(digest))
