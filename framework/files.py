"""Reading and writing files that somebody else may have prepared, on file systems that may fail.

Nothing is opened through a symbolic link, nothing is waited for that is not a regular file, and what is written is
there as a whole or not at all. Knows nothing of what the files hold.
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

TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN})  # what a network file system may take back
_WAITS_SECONDS = (0.05, 0.2)  # between the attempts at what fails for one of those reasons
_CHUNK_BYTES = 1 << 20
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def retry(call: Callable[[], T]) -> T:
    """Return what `call` returns, which is called again a few times where the file system fails for the moment."""
    for seconds in _WAITS_SECONDS:
        try:
            return call()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
            time.sleep(seconds)
    return call()


def open_to_read(path: Path) -> int:
    """Return a descriptor of a regular file; raises `OSError`, for a link too (ELOOP), or for what is no file."""
    return _open_regular(path, os.O_RDONLY)


def read_file(path: Path, max_bytes: int | None = None) -> bytes:
    """Return what a regular file holds; raises `OSError`, EFBIG where that is more than `max_bytes`."""
    return retry(lambda: _read(path, max_bytes))


def replace_file(path: Path, data: str | bytes | memoryview, durable: bool = True) -> None:
    """Write a file so that readers see the old one or the new one, whole; what is at `path` is never written to.

    When a durable one returns, it would survive a power cut. Raises `OSError`; then the old one is as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    retry(lambda: _replace(path, content, durable))


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a new empty file beside `path`, which takes its place when the block ends without an error.

    For what only libraries can write. It is this process's own: created where nothing was, under a name that nobody
    could know.
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
    """Return a name for an unfinished file in the directory of `path`, which nobody can know before."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def remove_unfinished(directory: Path) -> None:
    """Delete the files and directories that killed processes had begun in a directory that is this process's own."""
    for name in list_directory(directory) if is_real_directory(directory) else ():
        if _UNFINISHED.fullmatch(name):
            path = directory / name
            with suppress(OSError):
                shutil.rmtree(path) if is_real_directory(path) else path.unlink()


def set_aside(path: Path) -> Path:
    """Rename what is damaged, so that it is in nobody's way and can still be looked at; return its new path."""
    names = (f"{path.name}.damaged{'' if number == 1 else f'-{number}'}" for number in itertools.count(1))
    aside = next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    retry(lambda: path.rename(aside))
    sync_directory(path.parent)
    return aside


def create(path: Path, mode: int = 0o666) -> int:
    """Return a descriptor to write to a file that did not exist; raises `FileExistsError` for a link, too."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def open_to_append(path: Path) -> int:
    """Return a descriptor that appends to a regular file, which is created if need be; raises `OSError` for a link."""
    return _open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def make_directory(path: Path) -> None:
    """Create a directory and those above it, so that they survive a power cut."""
    if not path.is_dir():
        make_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir()
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is in the way of a directory", str(path))
        sync_directory(path.parent)


def make_own_directory(path: Path) -> None:
    """Create a directory as `make_directory` does; a file or a link that is in its place is renamed, and told of."""
    if os.path.lexists(path) and not is_real_directory(path):
        log.warning("⚠ %s: is no directory, or a link to one; it is %s now", path, set_aside(path).name)
    make_directory(path)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_directory(path: Path) -> list[str]:
    """Return the names in a directory in their order; raises `OSError`."""
    return sorted(retry(lambda: os.listdir(path)))  # noqa: PTH208


def is_real_directory(path: Path) -> bool:
    """Tell whether a directory is there, and not a link to one; raises `OSError` where that is not known now."""
    try:
        return stat.S_ISDIR(retry(path.lstat).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _read(path: Path, max_bytes: int | None) -> bytes:
    descriptor = open_to_read(path)
    try:
        chunks, size = [], 0
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
    except IsADirectoryError:  # nobody but a stranger makes one there
        log.warning("⚠ %s: is a directory, expected a file; it is %s now", path, set_aside(path).name)
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
