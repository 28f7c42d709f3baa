"""Saving in the background: the caller waits for a copy only; a thread writes and commits."""

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

_ENVIRONMENT_ERRORS = (OSError, CheckpointError, MemoryError)  # caused by the disk or the machine; may be temporary


class SaveWatch(Protocol):
    """An observer of saves, such as `framework.runtime.Guard`."""

    def saving(self) -> AbstractContextManager[None]:
        """Return a context that is open while a save blocks the caller."""
        ...

    def learn_write(self, seconds: float) -> None:
        """Record the time from the call of a save until it was durable."""
        ...


class CheckpointWriter:
    """Background writer that commits to a store, one save at a time.

    `save` waits while another save is being written: memory is limited to one copy of the state, and
    no requested save is skipped. If a save cannot be written, a warning is logged and training continues;
    `flush` and `close` raise the error if it was the last save. A programming error is raised by
    the next call. Only one thread may use a writer. A `guard` learns from it how long before the end
    to stop, and does not treat waiting for the disk as a training that is stuck.
    """

    def __init__(self, store: CheckpointStore, guard: SaveWatch | None = None) -> None:
        self.store = store
        self._guard = guard
        self.blocked_seconds: float | None = None  # time that the last save blocked the caller
        self.save_seconds: float | None = None  # from the call of the last successful save until it was durable
        self._snapshot = Snapshot()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Generation] | None = None

    def prepare(self, files: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        """Do the first save's preparation now: allocate the buffers, and refuse what could not be restored."""
        self.wait()
        self._snapshot.take_files(files, metadata or {})

    def save(self, files: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Commit `files` and `metadata` as they are now, in the background; see `CheckpointStore.commit`.

        Raises `StateError` immediately for what could not be restored.
        """
        started = time.monotonic()
        with self._saving():
            if self._pending and not isinstance(self._pending.exception(), (*_ENVIRONMENT_ERRORS, NoneType)):
                self.flush()
            files, metadata = self._snapshot.take_files(files, metadata)
            self._pending = self._executor.submit(self._commit, files, metadata, started)
        self.blocked_seconds = time.monotonic() - started

    def wait(self) -> None:
        """Wait until nothing is being written; errors are not raised."""
        if self._pending and not self._pending.done():
            wait([self._pending])

    def flush(self) -> Generation | None:
        """Wait until the last save is durable and return it, or raise its error once. None if nothing was pending."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        with self._saving():
            return pending.result()

    def close(self) -> None:
        """Flush and end the thread."""
        try:
            self.flush()
        finally:
            self._executor.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:  # a failed save has already been reported; the current error is the one to show
            with self._saving():
                self._executor.shutdown()

    def _saving(self) -> AbstractContextManager[None]:
        return self._guard.saving() if self._guard else nullcontext()

    def _commit(self, files: Mapping[str, Any], metadata: Mapping[str, Any], started: float) -> Generation:
        try:
            self._snapshot.wait()
            generation = self.store.commit(files, metadata)
        except _ENVIRONMENT_ERRORS as error:
            log.warning("⚠ %s; training continues", error)
            raise
        self.save_seconds = time.monotonic() - started
        if self._guard:
            self._guard.learn_write(self.save_seconds)
        return generation
