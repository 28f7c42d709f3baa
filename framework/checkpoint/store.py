"""Durable generations of a run's state, each committed as a whole or not at all.

A generation is a directory of files and a manifest with the size and digest of each. It is
written under a temporary name, fsynced, and renamed once; nothing older is deleted before that.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from framework.errors import CheckpointError

_MANIFEST = "manifest.json"
_NAME = re.compile(r"\d{8}")


@dataclass(frozen=True)
class Generation:
    """One committed checkpoint: its directory and manifest."""

    path: Path
    manifest: dict[str, Any]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and digest of each file, by its path below the generation."""
        return self.manifest["files"]

    def load(self, name: str) -> Any:
        """Read one file, checking its digest first; `.json` and `.pth` are known."""
        path = self.path / name
        if name not in self.files:
            raise CheckpointError(f"{path}: not in this checkpoint")
        if not path.is_file() or _digest(path) != self.files[name]["sha256"]:
            raise CheckpointError(f"{path}: damaged (its digest is not the one in {_MANIFEST})")
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        return torch.load(path, weights_only=True, map_location="cpu")


class CheckpointStore:
    """The generations below one directory, the newest last."""

    def __init__(self, root: Path, keep: int = 2) -> None:
        self.root = root
        self.keep = keep

    def generations(self) -> list[Generation]:
        """Return all committed generations, oldest first."""
        found = sorted(p for p in self.root.glob("*") if _NAME.fullmatch(p.name) and (p / _MANIFEST).is_file())
        return [Generation(path, json.loads((path / _MANIFEST).read_text(encoding="utf-8"))) for path in found]

    def latest(self) -> Generation | None:
        """Return the newest generation, or None."""
        generations = self.generations()
        return generations[-1] if generations else None

    def commit(self, files: Mapping[str, Any], facts: Mapping[str, Any]) -> Generation:
        """Write a new generation with `files` and the other files of the newest one, and return it.

        `files` maps paths such as `z/model.pth` to state dicts or JSON-able containers; files of
        the newest generation that are not named are carried over as hard links. Raises `OSError`.
        """
        newest = self.latest()
        number = int(newest.path.name) + 1 if newest else 1
        final = self.root / f"{number:08d}"
        temporary = self.root / f"{final.name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        entries = {}
        for name, content in files.items():
            entries[name] = _write(temporary / name, content)
        for name, entry in newest.files.items() if newest else ():
            if name not in entries:
                _link(newest.path / name, temporary / name)  # type: ignore[union-attr]
                entries[name] = entry
        manifest = {**facts, "files": dict(sorted(entries.items()))}
        _write(temporary / _MANIFEST, manifest)
        for directory in {p.parent for p in temporary.rglob("*")} | {temporary}:
            _sync_directory(directory)
        temporary.rename(final)
        _sync_directory(self.root)
        self._point_latest(final)
        self._prune()
        return Generation(final, manifest)

    def _point_latest(self, final: Path) -> None:
        """Replace the convenience link; nothing reads it."""
        link = self.root / "latest.tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(final.name)
        link.replace(self.root / "latest")

    def _prune(self) -> None:
        for generation in self.generations()[: -self.keep]:
            shutil.rmtree(generation.path, ignore_errors=True)


def _write(path: Path, content: Any) -> dict[str, Any]:
    """Write and fsync one file; return its manifest entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        if path.suffix == ".json":
            file.write(json.dumps(content, indent=1).encode())
        else:
            torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "sha256": _digest(path)}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
