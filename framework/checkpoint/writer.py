"""Saving beside training: the caller pays for a copy, a thread writes and commits."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from types import NoneType, TracebackType
from typing import Any, Protocol, Self

from framework.checkpoint.manifest import Generation
from framework.checkpoint.snapshot import Snapshot
from framework.checkpoint.store import CheckpointStore
from framework.errors import CheckpointError

log = logging.getLogger(__name__)

_MAY_PASS = (OSError, CheckpointError, MemoryError)  # what the disk or the machine is to blame for


class SaveWatch(Protocol):
    """Who wants to know of saves; `framework.runtime.Guard` is one."""

    def saving(self) -> AbstractContextManager[None]:
        """Return what is open while a save holds up the caller."""
        ...

    def learn_write(self, seconds: float) -> None:
        """Take the time from the call of a save until it was durable."""
        ...


class CheckpointWriter:
    """Commits to a store from a thread of its own, one save at a time.

    A `save` while another is being written waits for that one: memory stays at one copy of the state, and
    no save that was asked for is left out. When it cannot be written, that is one warning and training goes
    on; `flush` and `close` raise the error if it was the last save's. A mistake of the program is raised by
    the next call. Only one thread may use a writer. A `guard` learns from it
    how long before the end to stop, and does not take waiting for the disk for a training that is stuck.
    """

    def __init__(self, store: CheckpointStore, guard: SaveWatch | None = None) -> None:
        self.store = store
        self._guard = guard
        self.blocked_seconds: float | None = None  # of the caller, by the last save
        self.save_seconds: float | None = None  # from the last successful save's call until it was durable
        self._snapshot = Snapshot()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Generation] | None = None

    def prepare(self, files: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        """Do now what the first save would: allocate the buffers, and refuse what could not be read again."""
        self.wait()
        self._snapshot.take_files(files, metadata or {})

    def save(self, files: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Commit `files` and `metadata` as they are now, in the background; see `CheckpointStore.commit`.

        Raises `StateError` at once for what could not be read again.
        """
        started = time.monotonic()
        with self._saving():
            if self._pending and not isinstance(self._pending.exception(), (*_MAY_PASS, NoneType)):
                self.flush()
            files, metadata = self._snapshot.take_files(files, metadata)
            self._pending = self._executor.submit(self._commit, files, metadata, started)
        self.blocked_seconds = time.monotonic() - started

    def wait(self) -> None:
        """Wait until nothing is being written, whether it succeeded or not."""
        if self._pending and not self._pending.done():
            wait([self._pending])

    def flush(self) -> Generation | None:
        """Wait until the last save is durable and return it; raise its error, once. None if nothing was pending."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        with self._saving():
            return pending.result()

    def close(self) -> None:
        """Flush, and end the thread."""
        try:
            self.flush()
        finally:
            self._executor.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:  # a failed save has been told of; the error on its way is the one to see
            with self._saving():
                self._executor.shutdown()

    def _saving(self) -> AbstractContextManager[None]:
        return self._guard.saving() if self._guard else nullcontext()

    def _commit(self, files: Mapping[str, Any], metadata: Mapping[str, Any], started: float) -> Generation:
        try:
            self._snapshot.wait()
            generation = self.store.commit(files, metadata)
        except _MAY_PASS as error:
            log.warning("⚠ %s; training goes on", error)
            raise
        self.save_seconds = time.monotonic() - started
        if self._guard:
            self._guard.learn_write(self.save_seconds)
        return generation
