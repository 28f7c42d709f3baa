"""Processes that `multiprocessing` starts: what a scheduler or a terminal sends to all of a job is for their parent.

`torch.utils.data.DataLoader`, pools and executors start theirs this way. A worker that dies of a signal takes
the loop that it feeds with it, before anything is saved; so what a guard watches for, its workers do not hear.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from multiprocessing import current_process
from multiprocessing.process import BaseProcess
from typing import Any

from framework.compat.processes import after_terminate, change_starts, replace_run
from framework.runtime.child import CAN_LISTEN, ORDER, SIGNALS, leave_signals_to_parent

_changes = ExitStack()  # to the standard library, in this process
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
        _changes.callback(change_starts(_prepared, _blocking))


def leave_children() -> None:
    """End what `prepare_children` began."""
    global _num_open
    _num_open -= 1
    if _num_open == 0:
        _changes.close()


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
        put_back = replace_run(process, run_as_child)
        try:
            blocking(process)
        finally:
            put_back()
        if CAN_LISTEN:
            after_terminate(process, _order)

    return prepared


def _order(pid: int) -> None:
    """Tell a child that is terminated to end, in a way that it knows to be its parent's."""
    with suppress(ProcessLookupError):
        os.kill(pid, ORDER)


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
