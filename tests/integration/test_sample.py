"""`python -m framework.sample`: more samples from a run, without its YAML."""

import hashlib
import json

import numpy as np
import pytest

from framework import load_run
from tests.support.command import run, train

KINDS = ("posterior", "predictive")


@pytest.fixture(scope="module")
def cwd(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("sample")
    result = train("inference.batch_size=40", "inference.report=true", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd


def sample(cwd, *arguments):
    result = run("framework.sample", "outputs/two_moons", *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    directory = cwd / result.stdout.split("samples: ")[1].strip()
    return {path.stem: np.load(path) for path in directory.glob("*.npz")}


def test_more_posterior_samples_begin_with_those_that_are_there(cwd):
    more = sample(cwd, "posterior", "inference.num_samples=80")["z"]
    first = np.load(cwd / "outputs/two_moons/samples/posterior/z.npz")
    assert more["samples"].shape == (10, 80, 2)
    np.testing.assert_array_equal(more["samples"][:, :40], first["samples"][:, :40])


def test_nothing_is_overwritten(cwd):
    count = len(list((cwd / "outputs/two_moons/samples").iterdir()))
    sample(cwd, "posterior"), sample(cwd, "posterior")
    assert len(list((cwd / "outputs/two_moons/samples").iterdir())) == count + 2


def test_another_seed_gives_other_samples(cwd):
    first = np.load(cwd / "outputs/two_moons/samples/posterior/z.npz")["samples"]
    assert not np.array_equal(sample(cwd, "posterior", "seed=5")["z"]["samples"], first)


def test_prior_samples_come_with_their_density(cwd):
    prior = sample(cwd, "prior", "inference.num_samples=33")["z"]
    assert prior["samples"].shape == (33, 2)
    np.testing.assert_allclose(prior["log_prob"], np.log(0.25), rtol=1e-5)


def test_predictive_samples_are_simulations(cwd):
    predictive = sample(cwd, "predictive", "inference.num_samples=30")
    assert predictive["x"]["samples"].shape == (10, 30, 2)


def test_a_new_observation_needs_no_training(cwd):
    np.save(cwd / "new.npy", np.array([[0.1, 0.2], [0.3, 0.4], [0.0, 0.0]]))
    assert sample(cwd, "posterior", "graph.x.observed=new.npy")["z"]["samples"].shape == (3, 50, 2)


def test_python_takes_new_observations_as_an_array(cwd):
    posterior, rows = load_run(cwd / "outputs/two_moons").posterior("z"), np.zeros((3, 2))
    theta = posterior.sample(30, x=rows)
    assert theta.shape == (3, 30, 2)
    assert posterior.log_prob(theta, x=rows).shape == (3, 30)
    assert posterior.sample(30, x=rows[0]).shape == (30, 2)


def test_samples_say_which_data_they_are_of(cwd):
    values = np.array([[0.1, 0.2], [0.3, 0.4]])
    np.save(cwd / "mine.npy", values)
    overrides = ["graph.x.observed=mine.npy", "inference.num_samples=7", "seed=3"]
    result = run("framework.sample", "outputs/two_moons", "posterior", *overrides, cwd=cwd)
    directory = cwd / result.stdout.split("samples: ")[1].strip()
    source = json.loads((directory / "source.json").read_text())
    assert source["observed"] == {
        "x": {
            "file": str(cwd / "mine.npy"),
            "num_observations": 2,
            "sha256_of_float32": hashlib.sha256(values.astype(np.float32).tobytes()).hexdigest(),
        }
    }
    assert (source["kind"], source["seed"], source["num_samples"]) == ("posterior", 3, {"z": 7})
    assert source["overrides"] == overrides
    checkpoint = (cwd / "outputs/two_moons/checkpoints/latest").resolve().name
    assert source["checkpoint"] == checkpoint
    line = f"posterior: 7 of z given x in mine.npy (2 observations), with checkpoint {checkpoint}, seed 3"
    assert line in result.stderr.splitlines()


def test_the_runs_own_samples_say_so_too(cwd):
    samples_dir = cwd / "outputs/two_moons/samples"
    own, predictive = (json.loads((samples_dir / kind / "source.json").read_text()) for kind in KINDS)
    assert own["observed"]["x"]["file"].endswith("experiments/two_moons/observations.npz")
    assert (own["num_samples"], predictive["num_samples"]) == ({"z": 50}, {"x": 20})
    sample(cwd, "posterior")
    newest = max(samples_dir.glob("posterior-*"), key=lambda path: path.stat().st_mtime_ns)
    again = json.loads((newest / "source.json").read_text())["observed"]["x"]
    assert again["file"] == str(cwd / "outputs/two_moons/observed.npz")
    assert again["sha256_of_float32"] == own["observed"]["x"]["sha256_of_float32"]


def test_parameters_without_labels_are_counted(cwd):
    assert sample(cwd, "prior", "inference.num_samples=3")["z"]["labels"].tolist() == ["z[0]", "z[1]"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["outputs/two_mons"], 4, "outputs/two_mons/config.yaml: missing"),
        (
            ["outputs/two_moons", "posterior", "loop.num_epochs=3"],
            2,
            "loop.num_epochs=3: expected KEY=VALUE",
        ),
        (
            ["outputs/two_moons", "posterior", "inference.num_samples=x"],
            2,
            "inference.num_samples=x: expected a whole number",
        ),
        (["outputs/two_moons", "posterior", "graph.x.observed=no.npz"], 2, "graph.x.observed=no.npz: no such file"),
        (["outputs/two_moons", "posterior", "seed=[1"], 2, "seed=[1: cannot be read; expected KEY=VALUE"),
        (
            ["outputs/two_moons", "posterior", "graph.y.observed=a.npy"],
            2,
            "graph.y.observed=a.npy: no node 'y' in the run",
        ),
        (["x" * 256], 2, "File name too long"),
        (["outputs/two_moons", "everything"], 2, "invalid choice: 'everything'"),
        (["outputs/two_moons", "posterior", "device=cuda:9"], 2, "device=cuda:9: not available here"),
    ],
)
def test_a_mistake_is_named(cwd, arguments, exit_code, message):
    result = run("framework.sample", *arguments, cwd=cwd)
    assert (result.returncode, message in result.stderr) == (exit_code, True), result.stderr
    assert "Traceback" not in result.stderr
