"""A process that simulates ranges for its parent and never outlives it."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext

from framework.errors import FrameworkError
from framework.graph import Graph
from framework.runtime.child import SIGNALS
from framework.runtime.children import prepared_children
from framework.simulation.shard import Report, simulate_shard
from framework.simulation.store import SimulationStore

_PR_SET_PDEATHSIG = 1


class WorkerDiedError(Exception):
    """A worker process ended unexpectedly."""


class Worker:
    """The parent's end of a worker: it sends ranges and receives reports."""

    def __init__(self, context: SpawnContext, build: Callable[[], Graph], store: SimulationStore) -> None:
        self.pipe, remote = context.Pipe()
        self.process = context.Process(target=_serve, args=(remote, build, store, os.getpid()))
        with prepared_children():
            self.process.start()
        remote.close()
        self.task: tuple[int, int] | None = None

    def assign(self, task: tuple[int, int] | None) -> None:
        """Send the next range; None leaves the worker idle."""
        self.task = task
        if task is not None:
            with suppress(OSError):  # a dead worker is detected when its report is received
                self.pipe.send(task)

    def has_ended(self) -> bool:
        """Return whether the process has ended; its pipe stays open if it has left children behind."""
        return self.process.exitcode is not None

    def receive(self) -> Report:
        """Return the report on the last assigned range; an error in the worker is raised here."""
        if self.has_ended() and not self.pipe.poll():
            raise self.death()
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            raise self.death() from None
        if isinstance(message, BaseException):
            raise message
        assert isinstance(message, Report)
        return message

    def death(self) -> WorkerDiedError:
        """Return an error that describes how the worker ended."""
        self.process.join(timeout=5)
        code = self.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        hint = "; if it was out of memory, lower simulation.workers" if code == -signal.SIGKILL else ""
        start, stop = self.task or (0, 0)
        return WorkerDiedError(f"a simulation worker {how} in simulations {start} to {stop}{hint}")

    def ask_to_stop(self) -> None:
        """Ask the worker to commit its finished simulations and exit."""
        with suppress(OSError):
            self.pipe.send(None)

    def end(self, timeout_seconds: float) -> None:
        """Wait for the worker to exit, and kill it after the timeout."""
        try:
            self.process.join(timeout_seconds)
        finally:
            self.process.kill()
            self.process.join()
            self.pipe.close()


def _serve(pipe: Connection, build: Callable[[], Graph], store: SimulationStore, parent_pid: int) -> None:
    """Simulate the received ranges, until None arrives or the parent exits; runs in the worker."""
    for signum in SIGNALS:  # inherited by programs that a simulator starts, so that signals do not make them fail
        signal.signal(signum, signal.SIG_IGN)
    _die_with(parent_pid)
    with suppress(EOFError, ConnectionError):  # the parent has exited
        try:
            graph = build()
            while task := pipe.recv():
                start, stop = task
                # Anything that arrives while simulating, None or the end of the pipe, means stop.
                pipe.send(simulate_shard(graph, store, start, stop, pipe.poll))
        except (EOFError, ConnectionError):
            raise
        except (FrameworkError, OSError) as error:
            pipe.send(error)
        except Exception:
            pipe.send(RuntimeError(f"a simulation worker failed:\n{traceback.format_exc()}"))


def _die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process whenever its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent died before that
        os._exit(1)
