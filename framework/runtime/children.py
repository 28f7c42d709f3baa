"""Processes that `multiprocessing` starts: what a scheduler or a terminal sends to all of a job is for their parent.

`torch.utils.data.DataLoader`, pools and executors start theirs this way. A worker that dies of a signal takes
the loop that it feeds with it, before anything is saved; so what a guard watches for, its workers do not hear.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from multiprocessing import current_process, util
from multiprocessing.process import BaseProcess
from typing import Any

from framework.runtime.child import CAN_LISTEN, ORDER, SIGNALS, leave_signals_to_parent

_originals: list[Any] = []
_num_open = 0


@contextmanager
def prepared_children() -> Iterator[None]:
    """Prepare every process that is started while the context is open, by any start method.

    A worker ends when it is told to, when its parent terminates it, and when its parent is gone.
    """
    prepare_children()
    try:
        yield
    finally:
        leave_children()


def prepare_children() -> None:
    """Begin to prepare processes that are started from now on; each call is for one of `leave_children`."""
    global _num_open
    _num_open += 1
    if _num_open == 1:
        _originals[:] = BaseProcess.start, util.spawnv_passfds
        BaseProcess.start = _prepared(BaseProcess.start)  # type: ignore[method-assign, assignment]
        # Undocumented, and how multiprocessing starts every interpreter: of a worker, of the fork server, and of the
        # resource tracker, during whose start it lets signals through.
        util.spawnv_passfds = _blocking(util.spawnv_passfds)


def leave_children() -> None:
    """End what `prepare_children` began."""
    global _num_open
    _num_open -= 1
    if _num_open == 0:
        BaseProcess.start, util.spawnv_passfds = _originals  # type: ignore[method-assign]


def run_as_child() -> None:
    """Run the current process as it would have run, but leave the signals to its parent."""
    leave_signals_to_parent()
    prepare_children()  # those of this process
    process = current_process()
    type(process).run(process)


def _prepared(start: Callable[[BaseProcess], None]) -> Callable[[BaseProcess], None]:
    blocking = _blocking(start)  # a process that is forked begins with them blocked, as do new interpreters

    @wraps(start)
    def prepared(process: BaseProcess) -> None:
        vars(process)["run"] = run_as_child  # goes with the process to wherever it runs, and calls its own `run`
        try:
            blocking(process)
        finally:
            del vars(process)["run"]
        if CAN_LISTEN:
            _have_terminated_by_order(process._popen)  # type: ignore[attr-defined]

    return prepared


def _have_terminated_by_order(popen: Any) -> None:
    """Send the order as well when the process is terminated, also when the interpreter exits; undocumented."""
    terminate = popen.terminate

    def terminate_by_order() -> None:
        terminate()
        if popen.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(popen.pid, ORDER)

    popen.terminate = terminate_by_order


def _blocking(call: Callable[..., Any]) -> Callable[..., Any]:
    """Have what the call starts begin with the signals blocked: it could not yet do anything about them."""

    @wraps(call)
    def blocking(*args: Any, **kwargs: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            return call(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return blocking
