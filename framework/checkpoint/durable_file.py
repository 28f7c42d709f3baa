"""Files of a checkpoint: written and hashed in one pass, then fsynced; independent of torch.

The digest is XXH3: it detects damage at memory speed, and is not meant to prevent forgery.
"""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from framework.files import create

DIGEST = "xxh3_128"
CHUNK_BYTES = 4 << 20  # hashed and written while in the CPU cache; each chunk acquires the interpreter's lock


class DurableFile:
    """A new file; `entry` is its size and digest once everything is written.

    An error in `write` is raised by `sync`: torch.save, which calls `write` from C++, would replace it by its own.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._hash = xxhash.xxh3_128()
        self._error: OSError | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = create(path)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            chunk = view[start : start + CHUNK_BYTES]
            self._hash.update(chunk)
            self.size += len(chunk)
            try:
                while chunk and not self._error:
                    chunk = chunk[os.write(self._descriptor, chunk) :]
            except OSError as error:
                self._error = error

    def flush(self) -> None:
        """Do nothing, since nothing is buffered; torch.save requires this method."""

    def sync(self) -> None:
        """Flush the file to disk; after an error, write a new file: the kernel marks lost pages as clean."""
        if self._error:
            raise self._error
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def entry(self) -> dict[str, Any]:
        """The file's entry in the manifest."""
        return {"size": self.size, DIGEST: self._hash.hexdigest()}


def is_json(name: str) -> bool:
    """Return whether a file is in JSON format; otherwise it is in torch's."""
    return name.endswith(".json")


def json_bytes(content: Any) -> bytes:
    """Return JSON with one top-level entry per line, readable by people and `grep`."""
    if not isinstance(content, dict):
        return json.dumps(content).encode()
    lines = [f"{json.dumps({key: value})[1:-1]}" for key, value in content.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def copy(source: BinaryIO, target: Path) -> DurableFile:
    """Write the bytes of an open file to a new one, which the caller must sync."""
    file = DurableFile(target)
    while chunk := source.read(CHUNK_BYTES):
        file.write(chunk)
    return file
