"""Opening a checkpoint's files: never through a link, and hashed only once while unchanged."""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from framework.checkpoint.durable_file import CHUNK_BYTES, DIGEST
from framework.errors import DamagedError
from framework.files import open_to_read, retry, temporary_beside
from framework.records import read_error

_SETTLED_NANOSECONDS = 100_000_000  # two writes within one tick of the file system's clock have the same mtime


class Stamp(NamedTuple):
    """File status that changes if a file is replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class VerifiedFiles:
    """Opener of files that match a manifest; remembers by their stamps which ones it has hashed."""

    def __init__(self) -> None:
        self._hashed: dict[Path, Stamp] = {}

    def open(self, directory: Path, name: str, entry: Mapping[str, Any]) -> tuple[int, Stamp]:
        """Return a descriptor and the stamp of a file in `directory`; raises `DamagedError`, `UnreadableError`."""
        with name_file_in_errors(directory / name):
            return retry(lambda: self._open(directory, name, entry))

    def mark_verified(self, path: Path, other: "VerifiedFiles", linked: Path) -> None:
        """Mark `path` as verified if `other` has verified `linked`, which is the same file under another name."""
        if linked in other._hashed:
            self._hashed[path] = other._hashed[linked]

    def _open(self, directory: Path, name: str, entry: Mapping[str, Any]) -> tuple[int, Stamp]:
        require_directories(directory, name)
        path = directory / name
        descriptor = open_to_read(path)
        try:
            stamp = Stamp.of(os.fstat(descriptor))
            started = time.time_ns()
            if self._hashed.get(path) != stamp:
                if stamp.size != entry["size"]:
                    raise DamagedError(f"{path}: damaged ({stamp.size} bytes, {entry['size']} in manifest.json)")
                if digest(descriptor) != entry[DIGEST]:
                    raise DamagedError(f"{path}: damaged (its digest is not the one in manifest.json)")
                if started - stamp.mtime_ns > _SETTLED_NANOSECONDS:
                    self._hashed[path] = stamp
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, stamp


def digest(descriptor: int) -> str:
    """Return the digest of an open file, whose position is at the start before and after."""
    value = xxhash.xxh3_128()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        value.update(chunk)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return value.hexdigest()


def require_directories(directory: Path, name: str) -> None:
    """Raise `DamagedError` unless `directory` and all parents of the file in it are directories and not links."""
    for parent in reversed(Path(name).parents):
        path = directory / parent
        if not stat.S_ISDIR(mode := path.lstat().st_mode):
            raise DamagedError(f"{path}: is {'a link' if stat.S_ISLNK(mode) else 'a file'}, expected a directory")


def link(source: Path, target: Path, stamp: Stamp) -> bool:
    """Hard-link a durable file at `target`; return False if it does not have the stamp, or cannot be linked.

    In that case, `target` is unchanged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        os.link(source, temporary)
    except OSError:  # some file systems do not support links
        return False
    if Stamp.of(temporary.lstat()) != stamp:
        temporary.unlink()
        return False
    temporary.replace(target)
    return True


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Raise an `OSError` of the block as an error that names the file; see `framework.records.read_error`."""
    try:
        yield
    except OSError as error:
        raise read_error(path, error) from error
