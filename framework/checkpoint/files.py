"""Files of a checkpoint: written and digested in one pass, fsynced, read back as plain data.

The digest is XXH3: it finds damage, at the speed of memory, and is not meant to stop a forger.
"""

import io
import json
import os
import pickle
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import xxhash

from framework.checkpoint.arrays import PICKLE, allow
from framework.errors import CheckpointError

DIGEST = "xxh3_128"
_CHUNK_BYTES = 4 << 20  # hashed and written while in the processor's cache; each costs a turn at the interpreter's lock
_crc_lock = threading.Lock()


class DurableFile:
    """A new file; `entry` is its size and digest once everything is written.

    An error of `write` is kept for `sync`: torch.save, which calls `write` from C++, would hide it behind its own.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._hash = xxhash.xxh3_128()
        self._error: OSError | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK_BYTES):
            chunk = view[start : start + _CHUNK_BYTES]
            self._hash.update(chunk)
            self.size += len(chunk)
            try:
                while chunk and not self._error:
                    chunk = chunk[os.write(self._descriptor, chunk) :]
            except OSError as error:
                self._error = error

    def flush(self) -> None:
        """Nothing is buffered; torch.save asks for this method."""

    def sync(self) -> None:
        """Bring the file to disk; after an error only a new file will do: pages that were lost count as clean."""
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
        """What the manifest says of the file."""
        return {"size": self.size, DIGEST: self._hash.hexdigest()}


def write_content(file: DurableFile, name: str, content: Any, compress: bool = False) -> None:
    """Write `content` in the format that the name's ending asks for: `.json`, or torch's for anything else."""
    if is_json(name):
        file.write(json_bytes(content))
    elif compress:
        file.write(_deflated(content))
    else:
        with _crc32(False):  # a second digest, at a third of the whole cost
            torch.save(content, file, PICKLE)  # type: ignore[arg-type]  # it asks for `write` and `flush` alone


def read_content(path: Path) -> Any:
    """Read what `write_content` has written; nothing in the file can run code."""
    allow()
    try:
        if is_json(path.name):
            return json.loads(path.read_text(encoding="utf-8"))
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: refused, it holds more than weights and plain containers ({reason})") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of bytes that someone else has written, whatever torch makes of them
        raise CheckpointError(f"{path}: damaged ({error})") from error


def is_json(name: str) -> bool:
    """Tell whether a file is in JSON, or else in torch's format."""
    return name.endswith(".json")


def json_bytes(content: Any) -> bytes:
    """Return JSON with one top-level entry per line, for people and `grep`."""
    if not isinstance(content, dict):
        return json.dumps(content).encode()
    lines = [f"{json.dumps({key: value})[1:-1]}" for key, value in content.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def digest(path: Path) -> str:
    """Return the digest of a file."""
    value = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            value.update(chunk)
    return value.hexdigest()


def link(source: Path, target: Path) -> None:
    """Give a durable file a second name, or copy it where the file system knows no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        copy = DurableFile(target)
        try:
            with source.open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    copy.write(chunk)
            copy.sync()
        finally:
            copy.close()


def make_directory(path: Path) -> None:
    """Create a directory and those above it, so that they survive a power cut."""
    if not path.is_dir():
        make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _deflated(content: Any) -> bytes:
    """Return torch's format with its records deflated, which torch.load reads like any other."""
    plain, packed = io.BytesIO(), io.BytesIO()
    with _crc32(True):
        torch.save(content, plain, PICKLE)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
        for record in source.namelist():
            target.writestr(zipfile.ZipInfo(record), source.read(record), zipfile.ZIP_DEFLATED, compresslevel=1)
    return packed.getvalue()


@contextmanager
def _crc32(enabled: bool) -> Iterator[None]:
    """Let torch.save compute checksums of its own, or not; the setting is the process's."""
    with _crc_lock:
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(enabled)
        try:
            yield
        finally:
            torch.serialization.set_crc32_options(before)
