"""Signal handling in a process that `multiprocessing` started while a guard was open."""

import _thread
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from types import FrameType

from framework.compat.processes import run_in_forks

CAN_LISTEN = hasattr(signal, "sigtimedwait")  # other systems do not say who sent a signal
# What the parent sends in addition to SIGTERM to end this process. Of two SIGTERMs that are pending while the process
# is importing, one is lost, and only the sender of the first is known.
ORDER = getattr(signal, "SIGRTMAX", signal.SIGTERM) - 5 if CAN_LISTEN else signal.SIGTERM
_SILENT = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_HEARD = {signal.SIGTERM, ORDER}  # by a thread
SIGNALS = {*_SILENT, *_HEARD}
_LOOK_SECONDS = 0.5  # between looks at whether the parent is still there


def leave_signals_to_parent() -> None:
    """Ignore the signals that all processes of a job are sent; only the parent may end this process."""
    for number in _SILENT:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _nothing)  # programs that are started from here would inherit SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not CAN_LISTEN:  # the sender is unknown, so any SIGTERM ends the process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    threading.Thread(target=_listen, args=(os.getppid(),), daemon=True, name="listens for SIGTERM").start()
    run_in_forks(_unblock)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SILENT)


def _listen(started_by: int) -> None:
    """Wait for SIGTERM, which no other thread can receive, and end the process if it is the parent's.

    The signal is blocked instead of handled because only then its sender is known, because torch's own handler would
    end a DataLoader worker, and because a worker may be in one long call.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    parent = parent_process()
    assert parent
    while True:
        info = signal.sigtimedwait(_HEARD, _LOOK_SECONDS)
        handler = signal.getsignal(signal.SIGTERM)
        is_orphan = os.getppid() != started_by or not parent.is_alive()
        if is_orphan or (info and info.si_pid == parent.pid and handler == signal.SIG_DFL):
            _end()
        if info and info.si_signo == signal.SIGTERM and callable(handler):  # installed since: it gets everybody's
            _thread.interrupt_main(signal.SIGTERM)
            _wake_main_thread()


def _end() -> None:
    """End as SIGTERM ends a process."""
    worker_info = getattr(sys.modules.get("torch.utils.data"), "get_worker_info", lambda: None)
    if worker_info():
        os._exit(0)  # like torch's handler: a DataLoader takes any other exit code for a crash
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)
    os._exit(1)  # the parent is gone, and something here handles the signal


def _wake_main_thread() -> None:
    """Make the main thread check for signals even if it is waiting in a system call."""
    for number in _SILENT:
        if signal.getsignal(number) is _nothing:
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            return


def _unblock() -> None:
    """Start programs and bare forks with no signal blocked, or nothing could terminate them."""
    if signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):  # otherwise it is a child of multiprocessing
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def _nothing(number: int = 0, frame: FrameType | None = None) -> None:
    """Do nothing."""
