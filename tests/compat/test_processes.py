"""What `framework/compat/processes.py` expects of Python's `multiprocessing` and `subprocess`."""

import inspect
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from framework.compat import processes as compat
from framework.runtime.child import SIGNALS
from framework.runtime.children import prepared_children

TIMEOUT_SECONDS = 60


def signals_of(pid, field):
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    mask = int(line.split()[1], 16)
    return {number for number in SIGNALS if mask >> (number - 1) & 1}


def test_every_interpreter_of_multiprocessing_is_started_by_spawnv_passfds():
    """If this fails, multiprocessing has another way, and its resource tracker dies of USR1: change that one, too."""
    tracker = resource_tracker.ResourceTracker()
    with prepared_children():
        tracker.ensure_running()
    try:
        pid = tracker._pid
        deadline = time.monotonic() + TIMEOUT_SECONDS
        needed = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}
        assert signals_of(pid, "SigBlk") >= needed
        while signals_of(pid, "SigIgn") < {signal.SIGINT, signal.SIGTERM}:  # these two it takes care of itself
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        tracker._stop()


def test_changes_are_put_back():
    """If this fails, a program continues with changed processes after its last guard has closed."""
    before = BaseProcess.start, util.spawnv_passfds
    seen = []
    put_back = compat.change_starts(lambda start: lambda process: seen.append("start") or start(process), lambda s: s)
    try:
        child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
        child.start()
        child.join(TIMEOUT_SECONDS)
    finally:
        put_back()
    assert seen == ["start"] and (BaseProcess.start, util.spawnv_passfds) == before


def test_terminate_and_the_exit_go_through_the_popen_of_a_process():
    """If this fails, a child that waits for two SIGTERMs at once may hear only the one that is not its parent's.

    See what `Process.terminate` and `multiprocessing.util._exit_function` call now, and change that in
    `after_terminate`.
    """
    told = []
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(TIMEOUT_SECONDS,))
    child.start()
    compat.after_terminate(child, told.append)
    child.terminate()
    child.join(TIMEOUT_SECONDS)
    assert told == [child.pid] and child.exitcode == -signal.SIGTERM
    child.terminate()
    assert told == [child.pid], "it has ended"
    assert "_popen.terminate()" in inspect.getsource(util._exit_function)


def leave_with_5():
    sys.exit(5)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_calls_the_run_that_its_process_object_carries(method):
    """If this fails, `Process.run` is no longer looked up on the object, and children would die of a job's signals.

    Find where the child calls `run` in `BaseProcess._bootstrap`, and how the object gets there.
    """
    child = multiprocessing.get_context(method).Process(target=os._exit, args=(1,))
    put_back = compat.replace_run(child, leave_with_5)
    child.start()
    put_back()
    child.join(TIMEOUT_SECONDS)
    assert child.exitcode == 5 and child.run.__func__ is BaseProcess.run


FORKS = """
import os, subprocess, sys
from framework.compat.processes import run_in_forks

marks = open(sys.argv[1], "a", buffering=1)
run_in_forks(lambda: print("fork", file=marks, flush=True))
assert subprocess.run(["true"]).returncode == 0
assert subprocess.call("exit 3", shell=True) == 3
assert (os.waitstatus_to_exitcode(os.system("exit 4")), os.system("kill -9 $$")) == (4, 9)
print("done")
"""


def test_each_program_that_is_started_calls_the_hook_of_its_fork(tmp_path):
    """If this fails, a program that a worker starts cannot be terminated: see how `subprocess` forks now."""
    marks = tmp_path / "marks"
    command = [sys.executable, "-c", FORKS, str(marks)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert marks.read_text().split() == ["fork"] * 4
