"""Files of a checkpoint opened to be read: through no link, and hashed once while they stay as they are."""

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

_SETTLED_NANOSECONDS = 100_000_000  # what is written twice within a tick of the file system's clock keeps its time


class Stamp(NamedTuple):
    """What changes where a file is replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class VerifiedFiles:
    """Opens files that are what a manifest says, and remembers by their stamps which it has hashed."""

    def __init__(self) -> None:
        self._hashed: dict[Path, Stamp] = {}

    def open(self, directory: Path, name: str, entry: Mapping[str, Any]) -> tuple[int, Stamp]:
        """Return a descriptor and the stamp of a file below `directory`; raises `DamagedError`, `UnreadableError`."""
        with telling(directory / name):
            return retry(lambda: self._open(directory, name, entry))

    def know(self, path: Path, other: "VerifiedFiles", same: Path) -> None:
        """Take over from the other that the file at `path`, which is the `same` there under another name, is whole."""
        if same in other._hashed:
            self._hashed[path] = other._hashed[same]

    def _open(self, directory: Path, name: str, entry: Mapping[str, Any]) -> tuple[int, Stamp]:
        require_directories(directory, name)
        path = directory / name
        descriptor = open_to_read(path)
        try:
            stamp, started = Stamp.of(os.fstat(descriptor)), time.time_ns()
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
    """Return the digest of an open file, whose position is at its start before and after."""
    value = xxhash.xxh3_128()
    while chunk := os.read(descriptor, CHUNK_BYTES):
        value.update(chunk)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return value.hexdigest()


def require_directories(directory: Path, name: str) -> None:
    """Raise `DamagedError` unless all on the way to a file, `directory` included, are directories and not links."""
    for parent in reversed(Path(name).parents):
        path = directory / parent
        if not stat.S_ISDIR(mode := path.lstat().st_mode):
            raise DamagedError(f"{path}: is {'a link' if stat.S_ISLNK(mode) else 'a file'}, expected a directory")


def link(source: Path, target: Path, stamp: Stamp) -> bool:
    """Put a durable file at `target` under a second name; False if it is not the one with the stamp, or cannot be.

    Then what was at `target` is still there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        os.link(source, temporary)
    except OSError:  # some file systems know no links
        return False
    if Stamp.of(temporary.lstat()) != stamp:
        temporary.unlink()
        return False
    temporary.replace(target)
    return True


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say of which file an error is, and whether that is damage; see `framework.records.read_error`."""
    try:
        yield
    except OSError as error:
        raise read_error(path, error) from error
