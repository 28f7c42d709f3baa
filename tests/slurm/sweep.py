"""A sweep of the user's project, submitted as a person does."""

import csv
import subprocess

from tests.slurm.cluster import wait_for
from tests.slurm.project import NUM_STEPS, OVERRIDES


class Sweep:
    """One command; its jobs write their steps to `<name>-<array index>.steps`."""

    def __init__(self, project, name, *overrides, step_seconds=0.05):
        self.project, self.name, self.step_seconds = project, name, step_seconds
        steps = f"hydra.launcher.setup=['export STEPS={name}-$SLURM_ARRAY_TASK_ID.steps']"
        launch = ["-m", f"name={name}", "hydra/launcher=slurm", "hydra.launcher.partition=main", steps]
        self.command = ["python", "-m", "framework.train", *launch, *OVERRIDES, *overrides]

    def start(self):
        environment = {**self.project.cluster.environment, "STEP_SECONDS": str(self.step_seconds)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(self.command, cwd=self.project.directory, env=environment, **pipes)

    def end(self, seconds=400):
        """Return the exit code and what was said."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output

    def job_id(self):
        """Return the id of the newest job or array of this name."""
        ids = self.project.cluster.run("squeue", "-h", f"--name={self.name}", "--format=%F").split()
        return max(ids, key=int, default="")

    def interrupt(self, index, *command):
        """Run a command once a job is in the middle of its training."""
        wait_for(lambda: len(self.steps(index)) > NUM_STEPS / 4, f"job {index} of {self.name} to train")
        self.project.cluster.run(*command)

    def steps(self, index=""):
        return self.project.steps(f"{self.name}-{index}")

    def run_dir(self, override):
        (path,) = (self.project.directory / "multirun" / self.name).glob(f"*{override},*")
        return path

    def rows(self):
        path = self.project.directory / "multirun" / self.name / "sweep.csv"
        return list(csv.DictReader(path.read_text().splitlines()))
