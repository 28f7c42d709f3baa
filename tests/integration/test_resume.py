"""A resume that would break the run, through the real commands."""

import json
import shutil

import numpy as np
import pytest

from tests.support.command import TINY, run, warm_start

SIMULATOR = """
def simulate(z, rng, noise=0.1):
    return z + noise * rng.normal(size=2)

def witness(z, rng):
    return z[:1] + rng.normal(size=1)
"""
EXPERIMENT = """# @package _global_
name: mine
graph:
  z: {{evidence: [x]}}
  x: {{parents: [z], simulator: {{_target_: simulator.simulate, noise: {noise}}}, observed: x.npy}}
  y: {{parents: [z], simulator: {{_target_: simulator.witness}}, observed: y.npy}}
priors:
  z: {{_target_: framework.priors.Uniform, low: [-1, -1], high: [1, 1]}}
optimizer:
  lr: {lr}
"""
COMMON = ["--config-dir=conf", "experiment=mine", "embedding=mlp"]


def command(cwd, *overrides, **variables):
    return warm_start("framework.train", *COMMON, *TINY, *overrides, cwd=cwd, **variables).wait()


def write_experiment(cwd, noise=0.1, lr=0.001):
    (cwd / "conf/experiment/mine.yaml").write_text(EXPERIMENT.format(noise=noise, lr=lr))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A user's directory with a finished run."""
    cwd = tmp_path_factory.mktemp("project")
    (cwd / "conf/experiment").mkdir(parents=True)
    (cwd / "simulator.py").write_text(SIMULATOR)
    np.save(cwd / "x.npy", np.zeros(2)), np.save(cwd / "y.npy", np.zeros(1))
    write_experiment(cwd)
    result = command(cwd)
    assert result.returncode == 0, result.stderr
    return cwd


@pytest.fixture
def project(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


@pytest.fixture
def edited(project):
    """The same with another simulator parameter and learning rate in the experiment's file."""
    write_experiment(project, noise=0.2, lr=0.002)
    return project


def contents(cwd):
    run_dir = cwd / "outputs/mine"
    return {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file() and p.name != "train.log"}


def test_every_key_that_would_break_the_run_is_named_and_nothing_is_touched(edited):
    before = contents(edited)
    changes = ["network.hidden_dim=16", "priors.z.high=[1,2]", "embedding.num_layers=3", "graph.z.evidence=[x,y]"]
    result = command(edited, "+resume=true", *changes)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines[0] == "✗ outputs/mine: incompatible config; nothing was changed"
    for line in (
        "network.hidden_dim: 8 → 16  (network.hidden_dim=8 in attempt 1 → network.hidden_dim=16)",
        "priors.z.high.1: 1 → 2  (config.yaml → priors.z.high=[1,2])",
        "embedding.num_layers: 2 → 3  (embedding=mlp in attempt 1 → embedding.num_layers=3)",
        "graph.z.evidence.1: — → y  (graph.z.evidence=[x,y])",
        "graph.x.simulator.noise: 0.1 → 0.2  (config.yaml → conf/experiment/mine.yaml)",
        "optimizer.lr: 0.001 → 0.002  (config.yaml → conf/experiment/mine.yaml)",
    ):
        assert f"  {line}" in lines
    assert "↻ Resuming outputs/mine from epoch 2/2" in result.stdout
    assert "(tensors not compared: the shape of 'y' is unknown: no simulation of it is stored)" in result.stdout
    assert contents(edited) == before


def test_the_difference_is_shown_without_starting_anything(project):
    before = contents(project)
    result = run("framework.diff", "outputs/mine", *COMMON, *TINY, "loop.num_epochs=9", "--format", "json", cwd=project)
    assert result.returncode == 0, result.stderr
    (change,) = json.loads(result.stdout)["changes"]
    assert (change["key"], change["class"], change["old"], change["new"]) == ("loop.num_epochs", "free", 2, 9)
    refused = run("framework.diff", "outputs/mine", *COMMON, *TINY, "seed=2", cwd=project)
    assert (refused.returncode, "allow: 'resume_allow=[seed]'" in refused.stderr) == (3, True)
    assert contents(project) == before


def test_a_requeued_job_resumes_regardless_of_edits(edited):
    result = command(edited, FRAMEWORK_REQUEUED="1")
    assert result.returncode == 0, result.stderr
    assert "outputs/mine from epoch 2/2: requeued, with its previous config" in result.stdout
    assert "graph.x.simulator.noise  0.1 → 0.2      ignored" in result.stdout
    assert "already finished" in result.stdout


def test_more_simulations_train_a_run_on_that_has_stopped_early(project):
    early = ["loop.num_epochs=50", "loop.early_stop_patience=1", "inference.report=true", "overwrite=true"]
    first = command(project, *early, "optimizer.lr=0.1")
    assert first.returncode == 0 and "z: stopped early at epoch" in first.stdout, first.stderr
    again = ["+resume=true", *early[:-1], "optimizer.lr=0.1"]
    more = ["simulation.num_simulations=600", "resume_allow=[simulation.num_simulations]"]
    second = command(project, *again, *more)
    assert second.returncode == 0, second.stderr
    assert "540 simulations to train on instead of 270, 60 held out instead of 30" in second.stdout
    assert "already finished" not in second.stdout
    progress = json.loads((project / "outputs/mine/checkpoints/latest/z/checkpoint.json").read_text())["progress"]
    (_, last), entries = (
        progress["datasets"],
        json.loads((project / "outputs/mine/report/summary.json").read_text())["facts"],
    )
    assert last["epoch"] < progress["best_epoch"] and entries["simulations"] == "600 valid, 0 invalid"
    assert entries["trained on"] == "z 540 simulations (60 held out)"


def test_a_run_resumes_with_more_epochs_more_samples_and_an_allowed_learning_rate(project):
    changes = ["loop.num_epochs=3", "inference.num_samples=60", "optimizer.lr=0.01", "resume_allow=[optimizer.lr]"]
    result = command(project, "+resume=true", *changes)
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in (project / "outputs/mine/metrics.jsonl").read_text().splitlines()]
    assert [record["lr"] for record in records] == [0.001, 0.001, 0.01]
    assert np.load(project / "outputs/mine/samples/posterior/z.npz")["samples"].shape[1] == 60
    recorded = json.loads(max((project / "outputs/mine/attempts").iterdir()).read_text())
    assert {change["key"]: change["verdict"] for change in recorded["resume_diff"]} == {
        "optimizer.lr": "allowed",
        "loop.num_epochs": "",
        "inference.num_samples": "",
    }
