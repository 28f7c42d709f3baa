"""Running the real commands as a user does, in a directory of their own.

A cold start is `python -m ...`. Most tests take a warm one: the same command in a fork of a process that has
already imported what takes four seconds, with its own directory, environment, standard streams and signals.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import warm
from tests.support.warm import ROOT, environment

TINY = [
    "simulation.num_simulations=300",
    "loop.num_epochs=2",
    "inference.num_samples=50",
    "inference.num_predictive=20",
    "inference.num_calibration=20",
    "inference.num_calibration_samples=20",
    "network.hidden_dim=8",
    "network.num_transforms=1",
    "inference.report=false",  # most of the time
]

__all__ = ["ROOT", "TINY", "Command", "cold_start", "environment", "run", "train", "warm_start"]


class Command:
    """A command under way; the test that started it waits for its end or kills it."""

    def __init__(self, start, arguments, cwd, variables):
        self._directory = TemporaryDirectory()
        self.arguments = list(map(str, arguments))
        self._paths = [Path(self._directory.name) / name for name in ("stdout", "stderr")]
        for path in self._paths:
            path.touch()  # it may be killed before it opens them
        self.process = start(self.arguments, cwd, environment() | variables, self._paths)
        self.pid = self.process.pid

    @property
    def output(self):
        """What it has printed so far."""
        return "".join(path.read_text() for path in self._paths)

    def poll(self):
        """Return the exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def send(self, number):
        """Send a signal to the process, which has to be there."""
        assert self.poll() is None, self.output
        os.kill(self.pid, number)

    def wait(self, timeout=120):
        """Wait for the end, and kill it when that is too late; return all that `subprocess.run` does."""
        deadline = time.monotonic() + timeout
        try:
            while self.poll() is None and time.monotonic() < deadline:
                self.process.wait_at_most(0.5)
            assert self.poll() is not None, f"still running after {timeout} s:\n{self.output}"
        finally:
            self.kill()
        return subprocess.CompletedProcess(self.arguments, self.poll(), *(path.read_text() for path in self._paths))

    def kill(self):
        self.process.kill()
        self.process.wait_at_most(60)


class ColdProcess(subprocess.Popen):
    def __init__(self, arguments, cwd, variables, paths):
        stdout, stderr = (path.open("ab") for path in paths)
        with stdout, stderr:
            command = [sys.executable, "-m", *arguments]
            super().__init__(command, cwd=cwd, env=variables, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)

    def wait_at_most(self, seconds):
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            return


def cold_start(*arguments, cwd, **variables):
    """Start `python -m ARGUMENTS`; `variables` are added to its environment."""
    return Command(ColdProcess, arguments, cwd, variables)


def warm_start(*arguments, cwd, **variables):
    """Start the same as `cold_start` in a fraction of the time."""
    return Command(warm.WarmProcess, arguments, cwd, variables)


def run(*arguments, cwd, start=warm_start, timeout=120):
    return start(*arguments, cwd=cwd).wait(timeout)


def train(*overrides, cwd, **options):
    return run("framework.train", *TINY, *overrides, cwd=cwd, **options)
