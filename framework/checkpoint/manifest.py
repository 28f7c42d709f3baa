"""A committed generation: its manifest, the verification of its files, and their contents.

Imports torch only to read a file in torch's format. The directory's content is not trusted: names must be
plain, nothing is opened through a link, and a file is used only if its digest matches the manifest.
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
from framework.checkpoint.verified_files import Stamp, VerifiedFiles, name_file_in_errors, require_directories
from framework.errors import CheckpointError, DamagedError, UnreadableError
from framework.files import retry
from framework.records import decode, parse_json, read_bytes

log = logging.getLogger(__name__)

T = TypeVar("T")
MANIFEST = "manifest.json"
RESERVED = frozenset({"files", DIGEST})  # its own entries, beside the caller's metadata
EMERGENCY = "emergency-"  # prefix of the name of a checkpoint saved after a crash
NAME = re.compile(rf"({EMERGENCY})?(\d{{8}})", re.ASCII)
_FORBIDDEN_PARTS = frozenset({"", ".", ".."})  # they could lead out of the checkpoint
_DEEPEST = 8  # path components, including the file name
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Generation:
    """One committed checkpoint: its directory and manifest, which lists the caller's metadata and the files.

    Each file is hashed when it is first read, and not again while it is unchanged. If it is damaged or unreadable, an
    intact copy of the same bytes is read from elsewhere, with a warning.
    """

    path: Path
    manifest: dict[str, Any]
    _verified: VerifiedFiles = field(default_factory=VerifiedFiles, compare=False, repr=False)
    _borrowed: dict[str, tuple[Path, str]] = field(default_factory=dict, compare=False, repr=False)  # where copies are

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a generation's manifest; raises `DamagedError`, or `UnreadableError`."""
        with name_file_in_errors(path / MANIFEST):
            retry(lambda: require_directories(path, MANIFEST))
            manifest = decode(path / MANIFEST, read_bytes(path / MANIFEST))
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(is_file_name(name) and _is_entry(files[name]) for name in files):
            raise DamagedError(f"{path / MANIFEST}: damaged (its list of files is invalid)")
        return cls(path, manifest)

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and digest of each file, by its path relative to the generation."""
        return self.manifest["files"]

    @property
    def committed_at(self) -> float:
        """When it was committed, in Unix seconds; raises `CheckpointError` if it has been deleted."""
        with name_file_in_errors(self.path / MANIFEST):
            return retry(lambda: (self.path / MANIFEST).lstat().st_mtime)

    @property
    def borrows(self) -> bool:
        """Whether any of the files read so far had to be read from a copy elsewhere."""
        return bool(self._borrowed)

    def entry(self, name: str, kind: type[T]) -> T:
        """Return an entry of the caller's metadata (`a.b` is entry b of a) of the given JSON type; floats are finite.

        Raises `DamagedError` if it is missing or of another type.
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
        """Return an entry that is a list of strings; raises `DamagedError`."""
        values: list[Any] = self.entry(name, list)
        if not all(isinstance(value, str) for value in values):
            raise DamagedError(f"{self.path / MANIFEST}: damaged ({name} is not a list of text)")
        return values

    def load(self, name: str) -> Any:
        """Verify a file's digest and read it, as JSON (`.json`) or torch's format. Raises `CheckpointError`."""
        if name not in self.files:
            raise CheckpointError(f"{self.path / name}: not in this checkpoint")

        def read() -> Any:
            with self.reading(name) as (path, file):
                if is_json(name):
                    return parse_json(path, file.read())
                from framework.checkpoint.torch_files import read_torch  # imports torch, which nothing else here needs

                return read_torch(path, file)

        with name_file_in_errors(self.path / name):
            return retry(read)

    def verify(self) -> None:
        """Verify every file; raises `CheckpointError` for the first that does not match the manifest."""
        for name in self.files:
            with self.reading(name):
                pass

    @contextmanager
    def reading(self, name: str) -> Iterator[tuple[Path, BinaryIO]]:
        """Open an intact copy of a file; yield its path, which may be in another directory, and the open file."""
        directory, name_there = self._borrowed.get(name, (self.path, name))
        try:
            descriptor, _ = self._verified.open(directory, name_there, self.files[name])
        except CheckpointError as error:
            directory, name_there, descriptor = self._borrow(name, error)
        with open(descriptor, "rb") as file:  # noqa: PTH123  # pathlib does not open descriptors
            yield directory / name_there, file

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of this generation's own file, or None if the file is not intact."""
        try:
            descriptor, stamp = self._verified.open(self.path, name, self.files[name])
        except CheckpointError:
            return None
        os.close(descriptor)
        return stamp

    def mark_verified(self, name: str, source: "Generation") -> None:
        """Mark a file as verified if `source`, which shares it under another path, has verified it."""
        self._verified.mark_verified(self.path / name, source._verified, source.path / name)

    def _borrow(self, name: str, error: CheckpointError) -> tuple[Path, str, int]:
        """Open an intact copy of a file, or raise `error`, which reading the file itself has raised."""
        for directory, name_there in self._same_as(name):
            with suppress(CheckpointError):
                descriptor, _ = self._verified.open(directory, name_there, self.files[name])
                self._borrowed[name] = directory, name_there
                log.warning("⚠ %s; reading %s instead, which has the same content", error, directory / name_there)
                return directory, name_there, descriptor
        raise error

    def _same_as(self, name: str) -> Iterator[tuple[Path, str]]:
        """Yield files that should have the same content: in this generation, then in others, newest first."""
        entry = self.files[name]
        yield from ((self.path, other) for other in self.files if other != name and self.files[other] == entry)
        for kind in ("", EMERGENCY):
            for path in reversed(generation_paths(self.path.parent, kind)):
                with suppress(CheckpointError):
                    files = Generation.open(path).files if path != self.path else {}
                    yield from ((path, other) for other in files if files[other] == entry)


def generation_paths(root: Path, kind: str = "") -> list[Path]:
    """Return the directories of the generations in `root`, oldest first; `kind` is "" or "emergency-".

    Raises `UnreadableError`.
    """
    return [path for path, is_directory in listed(root, kind) if is_directory]


def newest_generation(root: Path) -> Generation | None:
    """Return the newest generation with an intact manifest; its files are verified when they are loaded."""
    for path in reversed(generation_paths(root)):
        with suppress(CheckpointError):
            return Generation.open(path)
    return None


def listed(root: Path, kind: str = "") -> list[tuple[Path, bool]]:
    """Return the paths named like a generation, oldest first, and whether each is a directory and not a link.

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
    """Return whether a file of a checkpoint may have this name: a plain relative path of printable characters."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or name == MANIFEST:
        return False
    parts = name.split("/")
    return len(parts) <= _DEEPEST and _FORBIDDEN_PARTS.isdisjoint(parts)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"size", DIGEST}:
        return False
    size, digest = entry["size"], entry[DIGEST]
    return type(size) is int and size >= 0 and isinstance(digest, str) and bool(_HEX.fullmatch(digest))
