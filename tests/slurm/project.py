"""A user's project whose training steps take a given time and are written down as they are taken."""

import json

import numpy as np

from tests.slurm.cluster import wait_for
from tests.support.command import TINY

SIMULATOR = """
import os
import time
from pathlib import Path
import torch

def simulate(z, rng):
    return z + rng.normal(size=2)

class PacedAdam(torch.optim.Adam):
    def step(self):
        time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        with Path(os.environ["STEPS"]).open("a") as file:
            print(sum(gradient.double().sum().item() for gradient in gradients), file=file)
        super().step()
"""
EXPERIMENT = """# @package _global_
name: paced
graph:
  z: {evidence: [x]}
  x: {parents: [z], simulator: {_target_: simulator.simulate}, observed: observed.npy}
priors: {z: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}}
optimizer: {_target_: simulator.PacedAdam}
"""
OVERRIDES = [
    "--config-dir=conf",
    "experiment=paced",
    *TINY,
    "inference.report=false",
    "loop.num_epochs=20",
    "loop.batch_size=27",  # ten steps in an epoch
    "loop.early_stop_patience=null",
]
NUM_STEPS = 200
URGENT = ["sbatch", "--partition=urgent", "--nodelist=node2", "--exclusive", "--output=/dev/null", "--wrap=true"]
SCRIPT = f"""#!/usr/bin/env bash
#SBATCH --requeue --open-mode=append --output=%x.out --ntasks=1 --nodes=1
run=$SLURM_JOB_NAME${{SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}}
export STEPS=$run.steps
srun python -u -m framework.train {" ".join(OVERRIDES)} name=$run "$@"
"""
BARE_SCRIPT = SCRIPT.replace("srun python", "python")
TEARDOWN = 'rc=$?; [ $rc -eq 99 ] && scontrol requeue "$SLURM_JOB_ID"; exit $rc\n'


class Project:
    """A directory to submit jobs from; each job's name is that of its run."""

    def __init__(self, directory, cluster):
        self.directory, self.cluster = directory, cluster
        (directory / "conf/experiment").mkdir(parents=True)
        (directory / "conf/experiment/paced.yaml").write_text(EXPERIMENT)
        (directory / "simulator.py").write_text(SIMULATOR)
        (directory / "job.sh").write_text(SCRIPT)
        (directory / "bare.sh").write_text(BARE_SCRIPT)
        (directory / "teardown.sh").write_text(SCRIPT + TEARDOWN)
        np.save(directory / "observed.npy", np.zeros(2))

    def submit(self, name, *options, script="job.sh", overrides=(), step_seconds=0.05):
        """Submit a job that takes 200 steps; return its id."""
        arguments = (f"--job-name={name}", *options, script, *overrides)
        return self.cluster.submit(*arguments, cwd=self.directory, STEP_SECONDS=str(step_seconds))

    def wait_for_training(self, name):
        """Wait until the run is in the middle of its training."""
        wait_for(lambda: len(self.steps(name)) > NUM_STEPS / 4, f"{name} to train")

    def interrupt(self, **commands):
        """Run the command under each job's name once that job is in the middle of its training."""
        while commands:
            name = wait_for(lambda: next((n for n in commands if len(self.steps(n)) > NUM_STEPS / 4), None), "training")
            self.cluster.run(*commands.pop(name))

    def run_here(self, name, *overrides):
        """Run without Slurm and without a limit."""
        command = ["python", "-m", "framework.train", *OVERRIDES, f"name={name}", *overrides]
        self.cluster.run(*command, cwd=self.directory, STEPS=f"{name}.steps")

    def steps(self, name):
        """What tells each training step from others, in the order in which they were taken in all attempts."""
        path = self.directory / f"{name}.steps"
        return path.read_text().split() if path.exists() else []

    def assert_same(self, name, other):
        """Require that a run has taken every step once, and has ended with the same numbers as another."""
        assert self.steps(name) == self.steps(other), self.log(name)
        assert self.numbers(name) == self.numbers(other), self.log(name)

    def numbers(self, name):
        """All numbers that a finished run in `outputs` leaves."""
        return self.numbers_in(self.directory / "outputs" / name)

    def numbers_in(self, run_dir):
        """All numbers that a finished run leaves: the loss of each epoch, and the samples."""
        with np.load(run_dir / "samples/posterior/z.npz") as file:
            samples = {key: file[key].tolist() for key in file.files}
        return (run_dir / "metrics.jsonl").read_text(), samples

    def saved_step(self, name):
        """The step from which a run that is killed now would resume."""
        text = (self.directory / "outputs" / name / "checkpoints/latest/z/checkpoint.json").read_text()
        return json.loads(text)["progress"]["step"]

    def pid(self, name):
        """The process of a run's newest attempt."""
        return json.loads(max((self.directory / "outputs" / name / "attempts").glob("*.json")).read_text())["pid"]

    def stop_reasons(self, name):
        """Why each attempt of a run in `outputs` ended, in order."""
        return self.stop_reasons_in(self.directory / "outputs" / name)

    def stop_reasons_in(self, run_dir):
        """Why each attempt ended, in order."""
        paths = sorted((run_dir / "attempts").glob("*.json"))
        return [json.loads(path.read_text())["stop_reason"] for path in paths]

    def log(self, name):
        return (self.directory / f"{name}.out").read_text()

    def manifest(self, name):
        return self.directory / "outputs" / name / "checkpoints/latest/manifest.json"
