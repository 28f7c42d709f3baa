"""The files of a lease, which identify a directory's owner; they may be damaged or foreign."""

import errno
import os
import re
import secrets
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from framework.errors import DamagedError, UnreadableError
from framework.files import create, open_to_read, retry
from framework.records import decode, encode
from framework.runtime.process import birth, machine
from framework.runtime.schedulers import job_id, start_number

EXPIRY_SECONDS = 120.0  # without a heartbeat, after which an owner on another machine counts as dead

NAME = re.compile(r"(\d{6,15})\.json")
_MAX_BYTES = 2**16
_MAX_TEXT = 1000
_MAX_PID = 2**31
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}  # from file systems without O_TMPFILE


@dataclass(frozen=True)
class LeaseOwner:
    """A process that owns or owned a directory."""

    host: str = field(default_factory=socket.gethostname)
    machine: str = field(default_factory=machine)
    pid: int = field(default_factory=os.getpid)
    birth: str | None = field(default_factory=lambda: birth(os.getpid()))
    job_id: str | None = field(default_factory=job_id)
    start_number: int = field(default_factory=start_number)
    since: float = field(default_factory=time.time)
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)
    released: bool = False

    @property
    def is_here(self) -> bool:
        """Whether the process is on this machine, so that it can be checked directly."""
        return self.machine == machine()

    def is_alive(self, now: float, last_sign: float) -> bool:
        """Return whether the process still owns its directory, by what this machine can determine."""
        if self.released:
            return False
        if self.is_here:
            return birth(self.pid) in (self.birth, "unknown")
        return now - last_sign < EXPIRY_SECONDS

    def was_restarted_as(self, other: "LeaseOwner") -> bool:
        """Return whether `other` is the same job after a requeue: its scheduler has ended this process."""
        return self.job_id is not None and self.job_id == other.job_id and self.start_number < other.start_number

    def __str__(self) -> str:
        return f"host {self.host}, pid {self.pid}" + (f", job {self.job_id}" if self.job_id else "")


@dataclass(frozen=True)
class LeaseState:
    """Content of the newest file of a lease; `owner` is None while it is being written, or if it is damaged."""

    number: int
    owner: LeaseOwner | None
    last_sign: float  # Unix seconds, by the clock of the file system

    def is_alive(self, now: float) -> bool:
        """Return whether the directory is owned; `now` is the time by the file system's clock."""
        if self.owner is None:
            return abs(now - self.last_sign) < EXPIRY_SECONDS
        return self.owner.is_alive(now, self.last_sign)


def read_lease(lease_dir: Path) -> LeaseState | None:
    """Return the current or last owner's state, or None if there never was an owner.

    Raises `UnreadableError` if the file system cannot be read: then the lease must not be taken over.
    """
    for _ in range(100):
        try:
            numbers = sorted(_numbers(lease_dir), reverse=True)
            if not numbers:
                return None
            for number in numbers:  # anything but a regular file is not a lease, but its number is taken
                with suppress(FileNotFoundError):  # superseded and removed
                    if (found := _read(path_of(lease_dir, number))) is not None:
                        return LeaseState(numbers[0], *found)
            if highest(lease_dir) == numbers[0]:
                return LeaseState(numbers[0], None, 0.0)
        except OSError as error:
            raise UnreadableError.of(lease_dir, error) from error
    raise UnreadableError(f"{lease_dir}: its files keep changing; check what other processes do there, then try again")


def is_held(lease_dir: Path, holding: LeaseState | None) -> bool:
    """Return whether a directory is owned, for read-only commands; `holding` is the result of `read_lease`.

    The age of a heartbeat from another machine is measured by the file system's clock, not by this host's.
    """
    if holding is None or (holding.owner and (holding.owner.released or holding.owner.is_here)):
        return holding is not None and holding.is_alive(0.0)
    return holding.is_alive(file_system_now(lease_dir))


def file_system_now(directory: Path) -> float:
    """Return the time by the clock that dates files in `directory`, or by this host's if that is not permitted."""
    try:
        try:
            descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            path = directory / f".{secrets.token_hex(16)}.tmp"
            descriptor = create(path)
            path.unlink()
        try:
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    except OSError:
        return time.time()


def encode_owner(owner: LeaseOwner) -> bytes:
    """Return the content of the owner's file: two copies, so that one wrong byte does not hide the owner."""
    return 2 * (encode(asdict(owner)).replace(b"\n", b" ") + b"\n")


def highest(lease_dir: Path) -> int:
    """Return the highest number in `lease_dir`, or 0; raises `OSError`."""
    return max(_numbers(lease_dir), default=0)


def path_of(lease_dir: Path, number: int) -> Path:
    """Return the path of the owner's file with this number."""
    return lease_dir / f"{number:06d}.json"


def _numbers(lease_dir: Path) -> list[int]:
    try:
        names = retry(lambda: _names(lease_dir))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(match[1]) for match in map(NAME.fullmatch, names) if match]


def _names(lease_dir: Path) -> list[str]:
    descriptor = os.open(lease_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.listdir(descriptor)  # noqa: PTH208
    finally:
        os.close(descriptor)


def _read(path: Path) -> tuple[LeaseOwner | None, float] | None:
    """Return the owner in a file and the modification time, or None if it is not a regular file."""
    try:
        data, last_sign = retry(lambda: _read_once(path))
        return _decode(path, data), last_sign
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO):
            return None
        raise


def _read_once(path: Path) -> tuple[bytes, float]:
    descriptor = open_to_read(path)  # opening refreshes NFS's cache
    try:
        return os.read(descriptor, _MAX_BYTES), os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _decode(path: Path, data: bytes) -> LeaseOwner | None:
    """Return the owner from either copy, or as version 0.2 wrote it: a single copy without a digest."""
    half = len(data) // 2
    for part in (data[:half], data[half:], *data.split(b"\n"), data):
        with suppress(DamagedError, TypeError):
            entries = decode(path, part, of_version_02=[_TYPES])
            if entries.keys() == _TYPES.keys() and all(is_one(entries[name]) for name, is_one in _TYPES.items()):
                return LeaseOwner(**entries)
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "host": _is_text,
    "machine": _is_text,
    "pid": lambda value: type(value) is int and 0 < value < _MAX_PID,
    "birth": _is_text_or_none,
    "job_id": _is_text_or_none,
    "start_number": lambda value: type(value) is int,
    "since": lambda value: isinstance(value, float),
    "nonce": _is_text,
    "released": lambda value: isinstance(value, bool),
}
assert _TYPES.keys() == {f.name for f in fields(LeaseOwner)}
