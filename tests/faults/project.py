"""A user's project with two tiny nodes, and its runs: one that has finished, one that was interrupted."""

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from framework.inference.samples import read_samples
from tests.support.command import warm_start

SIMULATOR = """
import os
import signal
import numpy as np
import torch

def shifted(a, b, rng):
    return a + b + 0.1 * rng.normal(size=2)

class Stopped(torch.optim.Adam):
    steps = 0

    def step(self):
        Stopped.steps += 1
        if Stopped.steps == int(os.environ.get("STOP_AT_STEP", 0)):
            os.kill(os.getpid(), signal.SIGTERM)
        super().step()
"""
EXPERIMENT = """# @package _global_
name: run
graph:
  a: {evidence: [x]}
  b: {evidence: [x, a]}
  x: {parents: [a, b], simulator: {_target_: simulator.shifted}, observed: observed.npy}
priors:
  a: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}
  b: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}
optimizer: {_target_: simulator.Stopped, lr: 0.01}
network: {hidden_dim: 4, num_layers: 1, num_transforms: 1}
simulation: {num_simulations: 200}
loop: {num_epochs: 3, batch_size: 40}
inference:
  {num_samples: 10, num_predictive: 2, num_calibration: 2, num_calibration_samples: 10, report: false}
"""
TRAIN = ["framework.train", "--config-dir=conf", "experiment=run"]
RUN = Path("outputs/run")
STOP_AT_STEP = 22  # of 30, in the second node
POWERLESS = str(Path(__file__).with_name("powerless.py"))


def make_project(directory: Path) -> Path:
    """Make a project in a new directory; return it."""
    (directory / "conf/experiment").mkdir(parents=True)
    (directory / "conf/experiment/run.yaml").write_text(EXPERIMENT)
    (directory / "simulator.py").write_text(SIMULATOR)
    np.save(directory / "observed.npy", np.zeros(2))
    return directory


class Runs:
    """The runs of a project, each to be had as it was as often as wanted, and always at the same path."""

    def __init__(self, directory: Path) -> None:
        self.project = make_project(directory / "project")
        self.run_dir = self.project / RUN
        self._kept = directory / "kept"
        stopped = self.do(*TRAIN, STOP_AT_STEP=str(STOP_AT_STEP))
        assert stopped.returncode == 99, stopped.stderr
        self.keep("interrupted")
        resumed = self.do(*TRAIN, "+resume=true")
        assert resumed.returncode == 0, resumed.stderr
        self.keep("finished")

    def do(self, *arguments, timeout=60, **variables):
        """Run a command there."""
        return warm_start(*arguments, cwd=self.project, **variables).wait(timeout)

    def keep(self, name: str) -> None:
        self._kept.mkdir(exist_ok=True)
        shutil.copytree(self.project / "outputs", self._kept / name, symlinks=True, copy_function=_linked_as_there())

    def restore(self, name: str) -> Path:
        """Put a run back as it was; return its directory."""
        clear(self.project / "outputs")
        shutil.copytree(self._kept / name, self.project / "outputs", symlinks=True, copy_function=_linked_as_there())
        for aside in self.run_dir.parent.glob("run.old-*"):
            shutil.rmtree(aside)
        return self.run_dir

    def kept_path(self, name: str, file: str) -> Path:
        """Return where a file of a run is kept as it was."""
        return self._kept / name / "run" / file

    def files(self, name: str) -> list[str]:
        """Return the paths of all files of a run, links among them."""
        run_dir = self._kept / name / "run"
        return sorted(str(p.relative_to(run_dir)) for p in run_dir.rglob("*") if p.is_symlink() or not p.is_dir())


def clear(directory: Path) -> None:
    """Remove a directory, whatever has been made of what is in it."""
    if not directory.exists():
        return
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(directory)


def numbers(run_dir: Path) -> dict[str, str]:
    """Return a digest of each node's samples that a run has drawn."""
    return {node: digest_of(arrays) for node, arrays in read_samples(run_dir / "samples/posterior").items()}


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a digest of named arrays."""
    return hashlib.sha256(b"".join(name.encode() + values.tobytes() for name, values in arrays.items())).hexdigest()


def snapshot(directory: Path) -> dict[str, tuple]:
    """Return every path below, with what tells whether it was changed; nothing is opened that is not a file."""
    found = {}
    for root, names, files in os.walk(directory):
        if "__pycache__" in names:
            names.remove("__pycache__")
        for name in [*names, *files]:
            path = os.path.join(root, name)  # noqa: PTH118
            entries = os.lstat(path)
            content = os.readlink(path) if stat.S_ISLNK(entries.st_mode) else ""  # noqa: PTH115
            if stat.S_ISREG(entries.st_mode) and entries.st_size < 1 << 24:
                with open(path, "rb") as file:  # noqa: PTH123
                    content = hashlib.sha256(file.read()).hexdigest()
            found[path] = (entries.st_mode, entries.st_size, content)
    return found


def _linked_as_there():
    """Return a function that copies a file; files with several names keep them."""
    copies: dict[int, str] = {}

    def copy(source, target):
        inode = Path(source).stat().st_ino
        if inode in copies:
            Path(target).hardlink_to(copies[inode])
        else:
            shutil.copy2(source, target)
            copies[inode] = target

    return copy
