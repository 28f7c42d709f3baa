"""Commands in forks of one process that has imported everything, by multiprocessing's fork server."""

import atexit
import functools
import multiprocessing.forkserver
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTED = [
    "hydra._internal.hydra",
    "scipy.stats",
    "torch._dynamo",
    "zuko",
    "framework.attempt",
    "framework.sample",
    "framework.inference.resample",
    "framework.inference.report",
]


def environment():
    """The tests' own environment with one thread, so that numbers do not depend on the machine's load."""
    own = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}  # torch sets it
    return {**own, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class WarmProcess:
    """`python -m ARGUMENTS` in a fork, or a script given by its path; as much of `subprocess.Popen` as tests need."""

    def __init__(self, arguments, cwd, variables, paths):
        self._process = _context().Process(target=_become, args=(arguments, cwd, variables, paths))
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def wait_at_most(self, seconds):
        self._process.join(seconds)

    def kill(self):
        self._process.kill()


@functools.cache
def _context():
    """Return the context whose processes are forks of the server, which ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        multiprocessing.forkserver.ensure_running()
    return context


def _become(arguments, cwd, variables, paths):
    """Do what the interpreter does for `python -m`, or for a script, from the working directory to the exit."""
    assert set(sys.modules) > set(IMPORTED), "the fork server has not imported what it should"
    for number, (path, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), *((p, os.O_WRONLY | os.O_CREAT) for p in paths)]
    ):
        descriptor = os.open(path, flags | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background does not receive Ctrl+C
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    name, *sys.argv[1:] = arguments
    is_script = "/" in name
    sys.path[:] = dict.fromkeys([str(Path(name).parent if is_script else cwd), str(ROOT), *filter(None, sys.path)])
    try:
        if is_script:
            sys.argv[0] = name
            runpy.run_path(name, run_name="__main__")
        else:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    finally:
        atexit._run_exitfuncs()
