"""Hooks in Python's `multiprocessing` and `subprocess` for starting and terminating processes."""

import os
import subprocess
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.process import BaseProcess
from typing import Any

CHECKED_ON = ("Python 3.11", "Python 3.12", "Python 3.13")

Call = Callable[..., Any]


def change_starts(change_start: Callable[[Call], Call], change_spawn: Callable[[Call], Call]) -> Callable[[], None]:
    """Wrap the functions that start processes, in this process; return a function that restores them.

    `change_start` receives `Process.start` and returns its replacement. `change_spawn` does the same for the function
    with which `multiprocessing` starts the interpreters of spawned workers, the fork server and the resource tracker.
    """
    before = BaseProcess.start, util.spawnv_passfds

    def restore() -> None:
        BaseProcess.start, util.spawnv_passfds = before  # type: ignore[method-assign]

    BaseProcess.start = change_start(BaseProcess.start)  # type: ignore[method-assign]
    util.spawnv_passfds = change_spawn(util.spawnv_passfds)
    return restore


def replace_run(process: BaseProcess, run: Callable[[], None]) -> Callable[[], None]:
    """Make a process that has not started yet call `run` instead of its own `run`; return a function that undoes it.

    `run` is pickled with the process where the start method needs it, and may call `type(process).run(process)`.
    """
    vars(process)["run"] = run
    return lambda: vars(process).pop("run", None)


def after_terminate(process: BaseProcess, do: Callable[[int], None]) -> None:
    """Call `do` with the process id whenever a started process is terminated, also when the interpreter exits."""
    popen: Any = process._popen  # type: ignore[attr-defined]
    terminate = popen.terminate

    def terminate_and_do() -> None:
        terminate()
        if popen.returncode is None:
            do(popen.pid)

    popen.terminate = terminate_and_do


def run_in_forks(after_fork: Callable[[], object]) -> None:
    """Call `after_fork` in each fork, also before it becomes a program that `subprocess` or `os.system` starts."""
    start = subprocess.Popen.__init__

    def start_with_hooks(self: subprocess.Popen, *args: Any, **kwargs: Any) -> None:
        if len(args) < 7:  # or else `preexec_fn` is the seventh
            kwargs["preexec_fn"] = kwargs.get("preexec_fn") or _nothing  # without one, no hook is called in the fork
        start(self, *args, **kwargs)

    def system(command: str) -> int:
        code = subprocess.call(command, shell=True)
        return -code if code < 0 else code << 8

    os.register_at_fork(after_in_child=after_fork)
    subprocess.Popen.__init__ = start_with_hooks  # type: ignore[method-assign]
    os.system = system  # type: ignore[assignment]


def _nothing() -> None:
    """Do nothing."""
