"""Run as a program: simulate with a toy simulator, for tests that interrupt it from outside."""

import sys
from pathlib import Path

from framework.simulation import SimulationStore, run_simulations
from tests import toy_simulators as toy

if __name__ == "__main__":
    directory, simulator, num_simulations, workers = sys.argv[1:]
    store = SimulationStore(Path(directory), 3, {"theta": (2,), "x": (2,)})
    build = toy.builder(getattr(toy, simulator))
    run_simulations(build, store, int(num_simulations), 3, int(workers), 1.0)
