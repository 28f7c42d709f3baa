"""Run as a program: simulate with a toy simulator, for tests that interrupt it from outside."""

import os
import resource
import sys
from pathlib import Path

from framework.simulation import SimulationStore, run_simulations
from tests.support import toy_simulators as toy

if __name__ == "__main__":
    directory, simulator, num_simulations, workers, max_file_bytes = sys.argv[1:]
    os.setsid()  # a process group of its own, as a terminal gives
    if int(max_file_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(max_file_bytes), int(max_file_bytes)))
    store = SimulationStore(Path(directory), 3, {"theta": (2,), "x": (2,)})
    build = toy.builder(getattr(toy, simulator))
    run_simulations(build, store, int(num_simulations), 3, int(workers), 1.0)
