"""A committed generation: what its manifest says, whether that is true, and its contents.

Needs torch only to read a file that is in torch's format.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import xxhash

from framework.checkpoint.files import DIGEST, digest, is_json, json_bytes
from framework.errors import CheckpointError, DamagedError, UnreadableError
from framework.files import retry
from framework.records import parse_json

MANIFEST = "manifest.json"
RESERVED = frozenset({"files", DIGEST})  # its entries beside the caller's facts
EMERGENCY = "emergency-"  # how the name of what could be saved of a crash begins
NAME = re.compile(rf"({EMERGENCY})?(\d{{8}})")


@dataclass(frozen=True)
class Generation:
    """One committed checkpoint: its directory and manifest, which is the caller's facts and the files."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a generation's manifest; raises `CheckpointError` where it is missing or damaged."""
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if manifest.pop(DIGEST) != _own_digest(manifest):
                raise ValueError("its digest is not its own")
        except FileNotFoundError:
            raise CheckpointError(f"{path / MANIFEST}: missing") from None
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{path / MANIFEST}: damaged ({error})") from error
        return cls(path, manifest)

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and digest of each file, by its path below the generation."""
        return self.manifest["files"]

    @property
    def committed_at(self) -> float:
        """When it was committed, in Unix seconds; raises `CheckpointError` if it is gone by now."""
        try:
            return retry(lambda: (self.path / MANIFEST).lstat().st_mtime)
        except FileNotFoundError as error:
            raise DamagedError(f"{self.path / MANIFEST}: missing") from error
        except OSError as error:
            raise UnreadableError.of(self.path / MANIFEST, error) from error

    def load(self, name: str) -> Any:
        """Read one file, checking its digest first; `.json` or what torch.save writes."""
        if name not in self.files:
            raise CheckpointError(f"{self.path / name}: not in this checkpoint")
        self._check(name)
        path = self.path / name
        if is_json(name):
            return parse_json(path, path.read_bytes())
        from framework.checkpoint.torch_files import read_torch  # torch, which nothing else here needs

        return read_torch(path)

    def verify(self) -> None:
        """Read every file; raises `CheckpointError` for the first that is not what the manifest says."""
        for name in self.files:
            self._check(name)

    def _check(self, name: str) -> None:
        path, entry = self.path / name, self.files[name]
        try:
            size = path.stat().st_size
            if size != entry["size"]:
                raise CheckpointError(f"{path}: damaged ({size} bytes, {entry['size']} in {MANIFEST})")
            if digest(path) != entry[DIGEST]:
                raise CheckpointError(f"{path}: damaged (its digest is not the one in {MANIFEST})")
        except OSError as error:
            raise CheckpointError(f"{path}: damaged ({error.strerror})") from error


def generation_paths(root: Path, kind: str = "") -> list[Path]:
    """Return the directories of the generations below `root`, oldest first; `kind` is "" or "emergency-".

    Raises `UnreadableError`.
    """
    return [root / name for name, is_directory in _listed(root, kind) if is_directory]


def newest_generation(root: Path) -> Generation | None:
    """Return the newest generation whose manifest is whole; its files are checked when they are loaded."""
    for path in reversed(generation_paths(root)):
        try:
            return Generation.open(path)
        except CheckpointError:
            continue
    return None


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest's text, with a digest of itself."""
    return json_bytes({**manifest, DIGEST: _own_digest(manifest)})


def _own_digest(manifest: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(manifest).encode()).hexdigest()


def _listed(root: Path, kind: str) -> list[tuple[str, bool]]:
    """Return the names of one kind of generations, oldest first, and whether each is a directory, not a link to one."""

    def read() -> list[tuple[str, bool]]:
        with os.scandir(root) as entries:
            found = [(entry, NAME.fullmatch(entry.name)) for entry in entries]
            return [
                (e.name, e.is_dir(follow_symlinks=False)) for e, match in found if match and (match[1] or "") == kind
            ]

    try:
        return sorted(retry(read))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableError.of(root, error) from error
