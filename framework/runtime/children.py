"""Processes started by `multiprocessing`: they leave the signals of a scheduler or terminal to their parent.

`torch.utils.data.DataLoader`, pools and executors start their workers this way. A worker that dies of a signal crashes
the loop that it feeds before anything is saved, so workers ignore the signals that the guard handles.
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

    A worker ends when its work is done, when its parent terminates it, and when its parent is gone.
    """
    prepare_children()
    try:
        yield
    finally:
        leave_children()


def prepare_children() -> None:
    """Prepare processes that are started from now on, until `leave_children` has been called as often."""
    global _num_open
    _num_open += 1
    if _num_open == 1:
        _changes.callback(change_starts(_prepared, _blocking))


def leave_children() -> None:
    """Undo one call of `prepare_children`."""
    global _num_open
    _num_open -= 1
    if _num_open == 0:
        _changes.close()


def run_as_child() -> None:
    """Run the current process as usual, except that signals are left to its parent."""
    leave_signals_to_parent()
    prepare_children()  # those of this process
    process = current_process()
    type(process).run(process)


def _prepared(start: Callable[[BaseProcess], None]) -> Callable[[BaseProcess], None]:
    blocking = _blocking(start)  # both forks and new interpreters start with the signals blocked

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
    """Send the signal that only a parent sends, in addition to SIGTERM."""
    with suppress(ProcessLookupError):
        os.kill(pid, ORDER)


def _blocking(call: Callable[..., Any]) -> Callable[..., Any]:
    """Start new processes with the signals blocked, since they cannot handle them yet."""

    @wraps(call)
    def blocking(*args: Any, **kwargs: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            return call(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return blocking
