"""Every failure ends with its documented exit code and a message that says what to do, and loses nothing."""

import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.command import ROOT, TINY, environment, run, train

EXPERIMENT = """# @package _global_
name: mine
graph:
  z: {{evidence: [x]}}
  x:
    parents: [z]
    simulator: {{_target_: simulator.{simulator}}}
    observed: observed.npy
priors:
  z: {{_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}}
"""
SIMULATOR = """
import os
import numpy as np

def fine(z, rng):
    return z + rng.normal(size=2)

def sometimes_raises(z, rng):
    if z[0] > 1.5:
        raise ValueError("the solver did not converge")
    return z + rng.normal(size=2)

def mostly_nan(z):
    return z if z[0] > 1 else np.nan * z

def always_raises(z):
    raise RuntimeError("no licence")

def dies(z, rng):
    if rng.uniform() < 0.02:
        os.kill(os.getpid(), 9)
    return z
"""


@pytest.fixture
def project(tmp_path):
    """A user's own directory: simulator.py, an observation and an experiment."""
    (tmp_path / "simulator.py").write_text(SIMULATOR)
    np.save(tmp_path / "observed.npy", np.zeros(2))
    (tmp_path / "conf/experiment").mkdir(parents=True)

    def train_with(simulator, *overrides, experiment=EXPERIMENT):
        text = experiment.format(simulator=simulator)
        (tmp_path / "conf/experiment/mine.yaml").write_text(text)
        return train("--config-dir=conf", "experiment=mine", *overrides, cwd=tmp_path)

    return train_with


def fails_with(result, exit_code, *messages):
    assert result.returncode == exit_code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for message in messages:
        assert message in result.stderr
    return True


def test_a_users_own_simulator_needs_no_change_of_the_framework(project):
    result = project("fine", "inference.report=true")
    assert result.returncode == 0, result.stderr


def test_failed_simulations_are_counted_reported_and_left_out(project):
    result = project("sometimes_raises")
    assert result.returncode == 0, result.stderr
    assert "more were invalid and dropped" in result.stdout


def test_too_many_invalid_simulations_end_the_run(project):
    result = project("mostly_nan", "simulation.max_invalid_fraction=0.2")
    assert fails_with(result, 2, "simulation.max_invalid_fraction=0.2", "NaN, infinite", "raise this")


def test_a_simulator_that_never_works_is_noticed_before_the_first_draw(project):
    assert fails_with(project("always_raises"), 2, "graph.x", "RuntimeError: no licence")


def test_a_worker_that_is_killed_is_named_and_what_is_finished_is_kept(project):
    result = project("dies", "simulation.workers=2", "simulation.num_simulations=2000")
    assert fails_with(result, 2, "simulation worker was killed by SIGKILL")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loop.num_epoch=3"], "loop.num_epoch=3: no such key; did you mean 'loop.num_epochs'?"),
        (["+resmue=true"], "resmue=True: no such key; did you mean 'resume'?"),
        (["network=nfs"], "network=nfs: expected one of"),
        (["runtime.checkpoint_before_end=5x"], "checkpoint_before_end=5x: expected auto, or a duration such as"),
        (["loop.num_epochs=[1"], "loop.num_epochs=[1: cannot be read; expected KEY=VALUE"),
        (["network._target_=torch.nn.Nothing"], "network._target_=torch.nn.Nothing: cannot be imported"),
        (["+network.width=3"], "takes no 'width'"),
        (["embedding=conv1d", "embedding.kernel_size=0"], "graph.z.embedding"),
        (["device=cuda:7"], "device=cuda:7: not available here"),
        (["graph.x.observed=nothing.npz"], "graph.x.observed=nothing.npz: no such file"),
        (["graph.x.parents=[y]"], "graph.x.parents: no node 'y'"),
        (["graph.z.evidence=[z]"], "graph.z.evidence: a cycle"),
        (["priors.z.low=[2,2]"], "low"),
        (["simulation.num_simulations=2", "loop.validation_fraction=0.9"], "leave nothing to train on"),
        (["+resume_from=outputs/nothing"], "resume_from=outputs/nothing"),
        (["loop=4"], "expected the name of one of the group's options"),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_that_names_the_key(overrides, message, tmp_path):
    result = train(*overrides, cwd=tmp_path)
    exit_code = 4 if "resume_from" in overrides[0] else 2
    assert fails_with(result, exit_code, message)
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_observation_of_another_shape_is_noticed_before_anything_runs(project, tmp_path):
    np.save(tmp_path / "three.npy", np.zeros(3))
    result = project("fine", "graph.x.observed=three.npy")
    assert fails_with(result, 2, "graph.x.observed: file has shape (3,)", "expected (num_observations, 2)")
    assert not (tmp_path / "outputs/mine/simulations").exists()


def test_resuming_where_nothing_is_says_so(tmp_path):
    assert fails_with(train("+resume=true", cwd=tmp_path), 4, "outputs/two_moons: nothing to resume here")


def test_an_unreadable_observation_is_named(project, tmp_path):
    (tmp_path / "observed.npy").write_bytes(b"not numpy")
    assert fails_with(project("fine"), 2, "graph.x.observed=observed.npy: cannot be read")


def test_a_damaged_checkpoint_is_named(tmp_path):
    assert train(cwd=tmp_path).returncode == 0
    (path,) = (tmp_path / "outputs/two_moons/checkpoints").glob("0*/z")
    damaged = path / "embedding_best.pth"  # of two moons the same as embedding.pth: there is nothing to train
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = run("framework.sample", "outputs/two_moons", cwd=tmp_path)
    assert fails_with(result, 0, "embedding_best.pth: damaged", "embedding.pth instead, which has the same content")
    damaged = path / "optimizer.pth"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = run("framework.sample", "outputs/two_moons", cwd=tmp_path)
    assert fails_with(result, 4, "optimizer.pth: damaged", "no checkpoint is intact")


def test_a_full_store_ends_the_run_and_keeps_what_is_there(tmp_path):
    command = [sys.executable, "-m", "framework.train", *TINY, "simulation.num_simulations=20000"]

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    result = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, preexec_fn=limit_files
    )
    assert fails_with(result, 2, "File too large", "+resume=true")
    result = train("simulation.num_simulations=20000", "+resume=true", "loop.num_epochs=0", cwd=tmp_path)
    assert "20000 simulations" in result.stdout


def test_an_unexpected_error_ends_with_exit_code_1_and_a_traceback(tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/tracking/broken.yaml").write_text("broken: {_target_: tests.support.broken.BrokenTracker}\n")
    result = train("--config-dir=conf", "tracking=broken", cwd=tmp_path)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
