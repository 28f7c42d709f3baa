"""A user's project that writes down which simulations each process is trained on, in the order of the steps."""

import json
import socket
from pathlib import Path

import numpy as np

from tests.support.command import TINY, warm_start

SIMULATOR = """
import os
import signal
import time
from pathlib import Path
import torch

RANK = os.environ.get("SLURM_PROCID") or os.environ.get("RANK", "0")

def simulate(z, rng):
    interrupt("simulation")
    time.sleep(float(os.environ.get("SIMULATION_SECONDS", 0)))
    return z + rng.normal(size=2)

def interrupt(where):
    if os.environ.get("INTERRUPT") == f"{RANK} at {where}":
        os.kill(os.getpid(), int(os.environ["NUMBER"]))

class Recording(torch.nn.Module):
    # What tells simulations from each other is the evidence, whose last bits no step changes.
    num_steps = 0

    def __init__(self):
        super().__init__()
        interrupt("start")
        self.dropout = torch.nn.Dropout(float(os.environ.get("DROPOUT", 0)))

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
            with Path(f"steps-{RANK}").open("a") as file:
                print(*(row.hex() for row in x[:, 0].double().tolist()), file=file)
            self.num_steps += 1
            interrupt(f"step {self.num_steps}")
        return self.dropout(x)
"""
EXPERIMENT = """# @package _global_
name: recorded
graph:
  z: {evidence: [x]}
  x: {parents: [z], simulator: {_target_: simulator.simulate}, observed: observed.npy}
priors: {z: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}}
embedding: {_target_: simulator.Recording}
"""
OVERRIDES = [
    "--config-dir=conf",
    "experiment=recorded",
    *TINY,
    "loop.num_epochs=4",
    "loop.batch_size=50",  # five steps in an epoch
    "loop.early_stop_patience=null",
]
NUM_STEPS = 20


def lay_out(directory):
    """Write simulator, observation and experiment."""
    (directory / "conf/experiment").mkdir(parents=True)
    (directory / "simulator.py").write_text(SIMULATOR)
    (directory / "conf/experiment/recorded.yaml").write_text(EXPERIMENT)
    np.save(directory / "observed.npy", np.zeros(2))


class RecordingProject:
    """A directory; all ranks run there, and rank 0 alone writes the run."""

    def __init__(self, directory):
        self.directory, self.run_dir = directory, directory / "outputs/recorded"
        lay_out(directory)

    def start(self, size, *overrides, start=warm_start, **variables):
        """Start the processes of one run as torchrun would; return them, rank 0 first."""
        if size > 1:
            variables |= together(size)
        return [self.start_one(rank, *overrides, start=start, **variables) for rank in range(size)]

    def start_one(self, rank, *overrides, directory=None, start=warm_start, **variables):
        command = ("framework.train", *OVERRIDES, *overrides)
        return start(*command, cwd=directory or self.directory, RANK=str(rank), **variables)

    def run(self, size, *overrides, **variables):
        """Run to the end; return what `subprocess.run` does for each rank."""
        return [process.wait() for process in self.start(size, *overrides, **variables)]

    def steps(self, size, first=0):
        """The simulations of each step from the given one on, those of all ranks together."""
        files = [(self.directory / f"steps-{rank}").read_text().splitlines()[first:] for rank in range(size)]
        assert len(set(map(len, files))) == 1, "all ranks take the same steps"
        return [sorted(" ".join(parts).split()) for parts in zip(*files, strict=True)]

    def losses(self):
        """(training, validation) of each epoch."""
        lines = (self.run_dir / "metrics.jsonl").read_text().splitlines()
        return np.array([[record["train_loss"], record["val_loss"]] for record in map(json.loads, lines)])


def trained_alone(directory):
    """The run as a single process trains it."""
    project = RecordingProject(directory)
    (result,) = project.run(1)
    assert result.returncode == 0, result.stderr
    return project


def together(size):
    """What torchrun tells processes that belong together."""
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def saved_steps(run_dir: Path):
    """The number of steps that the newest checkpoint holds."""
    return json.loads((run_dir / "checkpoints/latest/z/checkpoint.json").read_text())["progress"]["step"]
