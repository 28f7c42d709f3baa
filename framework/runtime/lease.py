"""One owner of a directory at a time, by files alone: right on NFS and Lustre, where locks may not be.

Owners are numbered. `<directory>/<number>.json` says who the owner is, and its time of
modification when it was last alive; the highest number is the owner. To take over from number n is
to create n + 1, which the file system lets exactly one process do, and a process that comes late with an old
view finds a number above its own and withdraws. The highest number is never deleted, only marked as released.
"""

import errno
import json
import os
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from framework.errors import ResumeRefusedError
from framework.runtime.job import job_id, start_number
from framework.runtime.process import birth, machine
from framework.runtime.threads import repeat

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 120.0  # of silence, after which an owner that cannot be looked at counts as dead

_NAME = re.compile(r"(\d{6,})\.json")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True)
class Owner:
    """A process that holds a directory, or held it."""

    host: str = field(default_factory=socket.gethostname)
    machine: str = field(default_factory=machine)
    pid: int = field(default_factory=os.getpid)
    birth: str | None = field(default_factory=lambda: birth(os.getpid()))
    job_id: str | None = field(default_factory=job_id)
    start_number: int = field(default_factory=start_number)
    since: float = field(default_factory=time.time)
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)
    released: bool = False

    def is_alive(self, now: float, last_sign: float) -> bool:
        """Tell whether the process still holds its directory, as far as can be known from here."""
        if self.released:
            return False
        if self.machine == machine():
            return birth(self.pid) in (self.birth, "unknown")
        return now - last_sign < EXPIRY_SECONDS

    def was_restarted_as(self, other: "Owner") -> bool:
        """Tell whether `other` is the same job after a requeue: its scheduler has ended this one."""
        return self.job_id is not None and self.job_id == other.job_id and self.start_number < other.start_number

    def __str__(self) -> str:
        return f"host {self.host}, pid {self.pid}" + (f", job {self.job_id}" if self.job_id else "")


@dataclass(frozen=True)
class Holding:
    """What the newest file of a lease says; `owner` is None while it is unreadable."""

    number: int
    owner: Owner | None
    last_sign: float  # Unix seconds, by the clock of the file system

    def is_alive(self, now: float) -> bool:
        """Tell whether the directory is held."""
        if self.owner is None:  # perhaps just being written
            return now - self.last_sign < EXPIRY_SECONDS
        return self.owner.is_alive(now, self.last_sign)


def read_lease(lease_dir: Path) -> Holding | None:
    """Return who holds the lease, or held it last; None if nobody ever did."""
    number = _highest(lease_dir)
    if number == 0:
        return None
    try:
        with _path(lease_dir, number).open(encoding="utf-8") as file:  # to open it refreshes NFS's cache
            last_sign = os.fstat(file.fileno()).st_mtime
            text = file.read()
    except OSError:  # overtaken and removed
        return read_lease(lease_dir) if _highest(lease_dir) != number else Holding(number, None, 0.0)
    with suppress(ValueError, TypeError):
        return Holding(number, Owner(**json.loads(text)), last_sign)
    return Holding(number, None, last_sign)


class Lease:
    """Holds the directory above `lease_dir` while its context is open; ends the process if another one takes it over.

    Entering raises `ResumeRefusedError` while another owner is alive. `before` is the one that was there before.
    """

    def __init__(self, lease_dir: Path, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.before: Holding | None = None
        self.number = 0
        self._lease_dir = lease_dir
        self._heartbeat_seconds = heartbeat_seconds
        self._me = Owner()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._acquire()
        repeat(self._beat, self._heartbeat_seconds, self._closed)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Give the directory up; the process that goes on writing all the same is not stopped any more."""
        self._closed.set()
        with suppress(OSError):  # then it expires, or the next one sees that this process is gone
            if self.successor() is None:
                draft = _Draft(self._lease_dir, replace(self._me, released=True))
                draft.path.replace(_path(self._lease_dir, self.number))

    def successor(self) -> Holding | None:
        """Return who has taken the directory over, if somebody has."""
        newest = read_lease(self._lease_dir)
        if newest is None or newest.owner is None:  # the directory is being moved or removed
            return newest if newest and newest.number > self.number else None
        return None if newest.owner.nonce == self._me.nonce else newest

    def _acquire(self) -> None:
        self._lease_dir.mkdir(parents=True, exist_ok=True)
        draft = _Draft(self._lease_dir, self._me)
        try:
            while not self._claim(draft):
                time.sleep(0.01)  # another process has come forward: the next round judges it
            self._outlast(draft)
            self._remove_old(draft.now())
        finally:
            draft.remove()

    def _claim(self, draft: "_Draft") -> bool:
        self.before = before = read_lease(self._lease_dir)
        if before and before.is_alive(draft.now()) and not (before.owner and before.owner.was_restarted_as(self._me)):
            raise ResumeRefusedError(_in_use(self._lease_dir.parent, before, draft.now()))
        self.number = before.number + 1 if before else 1
        path = _path(self._lease_dir, self.number)
        if not draft.publish(path):
            return False
        if _highest(self._lease_dir) == self.number:
            return True
        path.unlink(missing_ok=True)  # it was another's number once, and this process came late
        return False

    def _outlast(self, draft: "_Draft") -> None:
        """Let the owner before notice: of a job requeued from a node that was lost to Slurm, it may go on there."""
        give_up = time.monotonic() + 1.5 * self._heartbeat_seconds
        while self.before and self.before.is_alive(draft.now()) and time.monotonic() < give_up:
            time.sleep(0.1)

    def _remove_old(self, now: float) -> None:
        for path in self._lease_dir.iterdir():
            match = _NAME.fullmatch(path.name)
            with suppress(OSError):
                if (match and int(match[1]) < self.number) or (
                    not match and now - path.stat().st_mtime > EXPIRY_SECONDS
                ):
                    path.unlink()

    def check(self) -> None:
        """End the process if another one has taken the directory over while this one was frozen; for before a write."""
        with suppress(OSError):  # a server that is away says nothing about who the owner is
            if (newest := self.successor()) and not self._closed.is_set():
                _exit_at_once(self._lease_dir.parent, newest)

    def _beat(self) -> None:
        """Show that this process is alive. A file system that hangs holds up this thread alone."""
        self.check()
        with suppress(OSError):
            os.utime(_path(self._lease_dir, self.number))


class _Draft:
    """A file under a name of its own, complete on disk before it gets its number."""

    def __init__(self, lease_dir: Path, owner: Owner) -> None:
        self._text = json.dumps(asdict(owner), indent=1)
        self.path = lease_dir / f".{owner.nonce}.tmp"
        with self.path.open("w", encoding="utf-8") as file:
            file.write(self._text)
            file.flush()
            os.fsync(file.fileno())

    def now(self) -> float:
        """Return the time by the clock that also dates heartbeats: hosts need not agree on it."""
        os.utime(self.path)
        return self.path.stat().st_mtime

    def publish(self, path: Path) -> bool:
        """Create `path` with this content unless it exists; tell whether this call did."""
        try:
            os.link(self.path, path)
            return True
        except FileExistsError:  # or over NFS, the answer was lost and the repeated request fails
            return self.path.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._publish_without_link(path)

    def _publish_without_link(self, path: Path) -> bool:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self._text)
        except FileExistsError:
            return False
        return True

    def remove(self) -> None:
        """Delete the name of its own."""
        self.path.unlink(missing_ok=True)


def _highest(lease_dir: Path) -> int:
    """Return the highest number there, or 0."""
    try:
        matches = [_NAME.fullmatch(name) for name in os.listdir(lease_dir)]  # noqa: PTH208
    except FileNotFoundError:
        return 0
    return max((int(match[1]) for match in matches if match), default=0)


def _path(lease_dir: Path, number: int) -> Path:
    return lease_dir / f"{number:06d}.json"


def _in_use(directory: Path, holding: Holding, now: float) -> str:
    silent = max(now - holding.last_sign, 0.0)
    return (
        f"{directory}: in use by {holding.owner or 'another process'}, last seen alive {silent:.0f} s ago; stop it "
        f"first (if it is dead, come back {EXPIRY_SECONDS:.0f} s after that), or start another run with name=..."
    )


def _exit_at_once(directory: Path, newest: Holding) -> None:
    text = f"✗ {directory} was taken over by {newest.owner or 'another process'}: exit at once, nothing is written"
    os.write(2, f"\n{text}\n".encode())
    os._exit(ResumeRefusedError.exit_code)
