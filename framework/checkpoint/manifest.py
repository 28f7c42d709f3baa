"""A committed generation: what its manifest says, whether that is true, and its contents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import xxhash

from framework.checkpoint.files import DIGEST, digest, json_bytes, read_content
from framework.errors import CheckpointError

MANIFEST = "manifest.json"
RESERVED = frozenset({"files", DIGEST})  # its entries beside the caller's facts


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

    def load(self, name: str) -> Any:
        """Read one file, checking its digest first; `.json` or what torch.save writes."""
        if name not in self.files:
            raise CheckpointError(f"{self.path / name}: not in this checkpoint")
        self._check(name)
        return read_content(self.path / name)

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


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest's text, with a digest of itself."""
    return json_bytes({**manifest, DIGEST: _own_digest(manifest)})


def _own_digest(manifest: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(manifest).encode()).hexdigest()
