"""A user's project whose runs can be held in any phase, for as long as a test needs to send a signal there."""

import re
import signal
import time
from pathlib import Path

import numpy as np

from tests.support.command import TINY, warm_start

SIMULATOR = """
import atexit
import os
import time
from contextlib import suppress
from pathlib import Path
import torch

def hold(phase, calls):
    with suppress(FileNotFoundError):
        while calls > (limit := int(Path(f"hold {phase}").read_text())):
            Path(f"reached {phase} {limit}").touch()
            time.sleep(0.001)

atexit.register(hold, "exiting", 1)

class Noisy:
    calls = 0

    def __call__(self, *parents, rng):
        self.calls += 1
        sampled = any(Path("outputs/slow/samples").glob("posterior/*.npz"))
        hold("sampling and reporting" if sampled else "simulating", self.calls)
        time.sleep(float(os.environ.get("SIMULATION_SECONDS", 0)))
        return sum(parents) + rng.normal(size=2)

class RecordingAdam(torch.optim.Adam):
    calls = 0

    def step(self):
        self.calls += 1
        hold("training", self.calls)
        time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        with Path("steps").open("a") as file:
            print(sum(gradient.double().sum().item() for gradient in gradients), file=file)
        super().step()
"""
PRIOR = "{_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}"
EXPERIMENTS = {
    "slow": f"""# @package _global_
name: slow
graph:
  z: {{evidence: [x]}}
  x: {{parents: [z], simulator: {{_target_: simulator.Noisy}}, observed: observed.npy}}
priors: {{z: {PRIOR}}}
optimizer: {{_target_: simulator.RecordingAdam}}
""",
    "chain": f"""# @package _global_
name: slow
graph:
  a: {{evidence: [x]}}
  b: {{evidence: [x, a]}}
  x: {{parents: [a, b], simulator: {{_target_: simulator.Noisy}}, observed: observed.npy}}
priors: {{a: {PRIOR}, b: {PRIOR}}}
optimizer: {{_target_: simulator.RecordingAdam}}
""",
}
OVERRIDES = [
    "--config-dir=conf",
    "experiment=slow",
    *TINY,
    "inference.report=true",
    "loop.num_epochs=12",
    "loop.batch_size=20",
    "loop.early_stop_patience=null",
]
RUN_DIR = Path("outputs/slow")
PHASES = {"starting": 0, "simulating": 30, "training": 45, "sampling and reporting": 9}  # calls until held there


class SlowProject:
    """A directory with a simulator, an observation and an experiment."""

    def __init__(self, directory):
        self.directory = directory
        self.run_dir = directory / RUN_DIR
        self.limits = {}
        (directory / "conf/experiment").mkdir(parents=True)
        (directory / "simulator.py").write_text(SIMULATOR)
        for name, text in EXPERIMENTS.items():
            (directory / f"conf/experiment/{name}.yaml").write_text(text)
        np.save(directory / "observed.npy", np.zeros(2))

    def start(self, *overrides, start=warm_start, **variables):
        return start("framework.train", *OVERRIDES, *overrides, cwd=self.directory, **variables)

    def run(self, *overrides, start=warm_start, **variables):
        return self.start(*overrides, start=start, **variables).wait()

    def hold(self, phase, calls=None):
        """Have the run wait in a phase, after so many simulations or training steps of that process."""
        self.limits[phase] = PHASES[phase] if calls is None else calls
        (self.directory / "new").write_text(str(self.limits[phase]))
        (self.directory / "new").rename(self.directory / f"hold {phase}")

    def wait_for(self, phase, process):
        """Wait until the run is held in the phase; nothing holds it while it starts."""
        reached = self.directory / f"reached {phase} {self.limits[phase]}"
        until(lambda: reached.exists() if phase != "starting" else handlers_are_installed(process), process)

    def release(self, phase):
        (self.directory / f"hold {phase}").unlink(missing_ok=True)

    def stop(self, phase, number, *overrides, start=warm_start, calls=None):
        """Run until the phase, send the signal there, and return how that ended."""
        self.hold(phase, calls)
        process = self.start(*overrides, start=start)
        self.wait_for(phase, process)
        process.send(number)
        self.release(phase)
        return process.wait()

    @property
    def has_checkpoint(self):
        return any(self.run_dir.glob("checkpoints/*/manifest.json"))

    @property
    def num_epochs(self):
        """The number of epochs trained."""
        path = self.run_dir / "metrics.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    @property
    def steps(self):
        """What tells each training step from others, in the order in which they were taken."""
        path = self.directory / "steps"
        return path.read_text().split() if path.exists() else []


def until(condition, process=None):
    """Wait for the condition, while the process runs."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process is None or process.poll() is None, process.output
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def handlers_are_installed(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status).group(1), 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def same_arrays(a, b):
    def same(p, q):
        return np.array_equal(p, q, equal_nan=p.dtype.kind == "f")

    with np.load(a) as x, np.load(b) as y:
        return x.files == y.files and all(same(x[name], y[name]) for name in x.files)


def same_run(a, b):
    """Tell whether two run directories hold the same numbers."""
    assert (a / "metrics.jsonl").read_text() == (b / "metrics.jsonl").read_text()
    samples = sorted(path.relative_to(a) for path in a.glob("samples/*/*.npz"))
    assert samples and samples == sorted(path.relative_to(b) for path in b.glob("samples/*/*.npz"))
    return all(same_arrays(a / path, b / path) for path in samples)
