"""Reading and writing of untrusted files, on file systems that may fail.

Files are never opened through symbolic links, opening anything but a regular file does not block, and files are
written atomically. Independent of the files' content.
"""

import errno
import itertools
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN})  # may be temporary on a network file system
_WAITS_SECONDS = (0.05, 0.2)  # between attempts after such an error
_CHUNK_BYTES = 1 << 20
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def retry(call: Callable[[], T]) -> T:
    """Return the result of `call`, which is retried a few times after temporary file system errors."""
    for seconds in _WAITS_SECONDS:
        try:
            return call()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            time.sleep(seconds)
    return call()


def open_to_read(path: Path) -> int:
    """Return a descriptor of a regular file; raises `OSError`, also for a link (ELOOP) and other kinds of files."""
    return _open_regular(path, os.O_RDONLY)


def read_file(path: Path, max_bytes: int | None = None) -> bytes:
    """Return the content of a regular file; raises `OSError`, EFBIG if it is larger than `max_bytes`."""
    return retry(lambda: _read(path, max_bytes))


def replace_file(path: Path, data: str | bytes | memoryview, durable: bool = True) -> None:
    """Replace a file atomically, so that readers see either the old or the new content in full.

    If `durable`, the file survives a power cut once this returns. Raises `OSError`; the old file is then unchanged.
    """
    content = data.encode() if isinstance(data, str) else data
    retry(lambda: _replace(path, content, durable))


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a new empty file beside `path`, which replaces it when the block ends without an error.

    For files that are written by libraries. The file is newly created under an unpredictable name, so that no other
    process can have prepared it.
    """
    temporary = temporary_beside(path)
    os.close(create(temporary))
    try:
        yield temporary
        _commit(temporary, path, durable)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def temporary_beside(path: Path) -> Path:
    """Return an unpredictable name for an unfinished file in the directory of `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def remove_unfinished(directory: Path) -> None:
    """Delete unfinished files and directories of killed processes in a directory that this process owns."""
    for name in list_directory(directory) if is_real_directory(directory) else ():
        if _UNFINISHED.fullmatch(name):
            path = directory / name
            with suppress(OSError):
                shutil.rmtree(path) if is_real_directory(path) else path.unlink()


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it can be replaced and still be examined; return its new path."""
    names = (f"{path.name}.damaged{'' if number == 1 else f'-{number}'}" for number in itertools.count(1))
    aside = next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    retry(lambda: path.rename(aside))
    sync_directory(path.parent)
    return aside


def create(path: Path, mode: int = 0o666) -> int:
    """Create a file and return a descriptor to write to it; raises `FileExistsError`, also for a link."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def open_to_append(path: Path) -> int:
    """Return a descriptor to append to a regular file, created if missing; raises `OSError` for a link."""
    return _open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def make_directory(path: Path) -> None:
    """Create a directory and its parents durably, so that they survive a power cut."""
    if not path.is_dir():
        make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "exists and is not a directory", str(path))
        sync_directory(path.parent)


def make_own_directory(path: Path) -> None:
    """Create a directory like `make_directory`; a file or link in its place is renamed, with a warning."""
    if os.path.lexists(path) and not is_real_directory(path):
        log.warning("⚠ %s: not a directory, or a symbolic link to one; renamed to %s", path, set_aside(path).name)
    make_directory(path)


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_directory(path: Path) -> list[str]:
    """Return the sorted names in a directory; raises `OSError`."""
    return sorted(retry(lambda: os.listdir(path)))  # noqa: PTH208


def is_real_directory(path: Path) -> bool:
    """Return whether the path is a directory and not a link to one; raises `OSError` if that cannot be determined."""
    try:
        return stat.S_ISDIR(retry(path.lstat).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _read(path: Path, max_bytes: int | None) -> bytes:
    descriptor = open_to_read(path)
    try:
        chunks = []
        size = 0
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if max_bytes is not None and size > max_bytes:
                raise OSError(errno.EFBIG, f"is larger than {max_bytes} bytes", str(path))
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes | memoryview, durable: bool) -> None:
    with replacing(path, durable=False) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(descriptor, content)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if durable:
        sync_directory(path.parent)


def _commit(temporary: Path, path: Path, durable: bool) -> None:
    if durable:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    try:
        temporary.replace(path)
    except IsADirectoryError:  # not created by this program
        log.warning("⚠ %s: is a directory, expected a file; renamed to %s", path, set_aside(path).name)
        temporary.replace(path)
    if durable:
        sync_directory(path.parent)


def _open_regular(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        _require_regular(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(descriptor: int, path: Path) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
