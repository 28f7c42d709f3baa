"""One owner of a directory at a time, by files alone: correct on NFS and Lustre too, where locks may not work.

Owners are numbered. `<directory>/<number>.json` identifies the owner, and its modification time is the
owner's last heartbeat; the highest number is the current owner. A process takes over from number n by
creating n + 1, in which exactly one process can succeed; a process that acts on an outdated view finds a
higher number than its own and withdraws. The highest number is never deleted, only marked as released.
"""

import errno
import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from framework.errors import ResumeRefusedError, UnreadableError, disk_advice
from framework.files import create, is_real_directory, make_directory, replace_file, retry, temporary_beside, write_all
from framework.runtime.lease_file import (
    EXPIRY_SECONDS,
    NAME,
    LeaseOwner,
    LeaseState,
    encode_owner,
    file_system_now,
    highest,
    is_held,
    path_of,
    read_lease,
)
from framework.runtime.threads import repeat

__all__ = ["EXPIRY_SECONDS", "Lease", "LeaseOwner", "LeaseState", "file_system_now", "is_held", "read_lease"]

HEARTBEAT_SECONDS = 10.0

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Lease:
    """Ownership of the parent of `lease_dir` while its context is open; exits the process if another takes over.

    Entering raises `ResumeRefusedError` while another owner is alive, and `UnreadableError` if that cannot be
    determined. `before` is the previous owner's state.
    """

    def __init__(self, lease_dir: Path, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.before: LeaseState | None = None
        self.number = 0
        self._lease_dir = lease_dir
        self._heartbeat_seconds = heartbeat_seconds
        self._me = LeaseOwner()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._acquire()
        repeat(self._beat, self._heartbeat_seconds, self._closed)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Release the directory; if the process continues to write, it is no longer stopped."""
        self._closed.set()
        with suppress(OSError, UnreadableError):  # then it expires, or its end is noticed
            if self.successor() is None:
                replace_file(path_of(self._lease_dir, self.number), encode_owner(replace(self._me, released=True)))

    def successor(self) -> LeaseState | None:
        """Return the state of the process that has taken the directory over, if any; raises `UnreadableError`."""
        newest = read_lease(self._lease_dir)
        if newest is None or newest.owner is None:  # the directory is being moved or removed
            return newest if newest and newest.number > self.number else None
        return None if newest.owner.nonce == self._me.nonce else newest

    def _acquire(self) -> None:
        try:
            self._take_over()
        except OSError as error:
            if disk_advice(error):
                raise
            raise UnreadableError.of(self._lease_dir, error) from error

    def _take_over(self) -> None:
        with suppress(NotADirectoryError):
            make_directory(self._lease_dir)
        if not is_real_directory(self._lease_dir):
            raise ResumeRefusedError(f"{self._lease_dir}: not a directory, or a symbolic link to one; move it away")
        draft = _Draft(self._lease_dir, self._me)
        try:
            while not self._claim(draft):
                time.sleep(0.01)  # another process is claiming it too: the next round examines that one
            self._wait_for_previous_owner(draft)
            self._remove_old(draft.now())
        finally:
            draft.remove()

    def _claim(self, draft: "_Draft") -> bool:
        self.before = before = read_lease(self._lease_dir)
        if before and before.is_alive(draft.now()) and not (before.owner and before.owner.was_restarted_as(self._me)):
            raise ResumeRefusedError(_in_use(self._lease_dir, before, draft.now()))
        self.number = before.number + 1 if before else 1
        path = path_of(self._lease_dir, self.number)
        if before and not NAME.fullmatch(path.name):
            raise ResumeRefusedError(f"{path_of(self._lease_dir, before.number)}: no run gets this far; remove it")
        if not draft.publish(path):
            return False
        if highest(self._lease_dir) == self.number:
            return True
        path.unlink(missing_ok=True)  # another process has used this number before, and this one was too late
        return False

    def _wait_for_previous_owner(self, draft: "_Draft") -> None:
        """Give the previous owner time to notice: it may still run on a node that Slurm lost before the requeue."""
        deadline = time.monotonic() + 1.5 * self._heartbeat_seconds
        while self.before and self.before.is_alive(draft.now()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _remove_old(self, now: float) -> None:
        for path in self._lease_dir.iterdir():
            match = NAME.fullmatch(path.name)
            with suppress(OSError):
                if (match and int(match[1]) < self.number) or (
                    not match and now - path.lstat().st_mtime > EXPIRY_SECONDS
                ):
                    path.unlink()

    def check(self) -> None:
        """Exit the process if another has taken the directory over while this one was suspended; before a write."""
        with suppress(UnreadableError):  # an unreachable server does not mean that the owner has changed
            if (newest := self.successor()) and not self._closed.is_set():
                _exit_at_once(self._lease_dir.parent, newest)

    def _beat(self) -> None:
        """Write a heartbeat. A file system that hangs blocks this thread only."""
        self.check()
        with suppress(OSError):
            retry(lambda: os.utime(path_of(self._lease_dir, self.number), follow_symlinks=False))


class _Draft:
    """A file with a temporary name, complete on disk before it gets its number."""

    def __init__(self, lease_dir: Path, owner: LeaseOwner) -> None:
        self._content = encode_owner(owner)
        self.path = temporary_beside(lease_dir / "owner")
        try:
            self._write(self.path)
        except OSError:
            self.remove()
            raise

    def now(self) -> float:
        """Return the time by the file system's clock, which also dates heartbeats: hosts' clocks may differ."""
        retry(lambda: os.utime(self.path, follow_symlinks=False))
        return retry(self.path.lstat).st_mtime

    def publish(self, path: Path) -> bool:
        """Create `path` with this content unless it exists; return whether this call created it."""
        try:
            retry(lambda: os.link(self.path, path))
            return True
        except FileExistsError:  # or over NFS the reply was lost, and the repeated request fails
            return self.path.lstat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._publish_without_link(path)

    def _publish_without_link(self, path: Path) -> bool:
        try:
            self._write(path)
            return True
        except FileExistsError:
            return False

    def _write(self, path: Path) -> None:
        descriptor = retry(lambda: create(path))
        try:
            write_all(descriptor, self._content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Delete the temporary name."""
        self.path.unlink(missing_ok=True)


def _in_use(lease_dir: Path, holding: LeaseState, now: float) -> str:
    silent = max(now - holding.last_sign, 0.0)
    if holding.owner is None:
        return (
            f"{path_of(lease_dir, holding.number)}: is being written or is damaged, so it is unknown whether the "
            f"run is in use; try again in {max(EXPIRY_SECONDS - silent, 1.0):.0f} s"
        )
    return (
        f"{lease_dir.parent}: in use by {holding.owner}, last seen alive {silent:.0f} s ago; stop it "
        f"first (if it is dead, try again {EXPIRY_SECONDS:.0f} s after that), or start another run with name=..."
    )


def _exit_at_once(directory: Path, newest: LeaseState) -> None:
    text = f"✗ {directory} was taken over by {newest.owner or 'another process'}: exiting immediately without writing"
    os.write(2, f"\n{text}\n".encode())
    os._exit(ResumeRefusedError.exit_code)
