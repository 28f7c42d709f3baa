"""Running the real commands as a user does, in a directory of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = [
    "simulation.num_simulations=300",
    "loop.num_epochs=2",
    "inference.num_samples=50",
    "inference.num_predictive=20",
    "inference.num_calibration=20",
    "inference.num_calibration_samples=20",
    "network.hidden_dim=8",
    "network.num_transforms=1",
]


def environment():
    """The tests' own environment with one thread, so that numbers do not depend on the machine's load."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(module, *arguments, cwd, timeout=120):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout)


def train(*overrides, cwd, **options):
    return run("framework.train", *TINY, *overrides, cwd=cwd, **options)


def start_training(*overrides, cwd):
    """Start without waiting; the caller ends it."""
    command = [sys.executable, "-u", "-m", "framework.train", *TINY, *overrides]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
