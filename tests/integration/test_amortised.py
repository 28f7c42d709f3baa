"""A run without an observation: trained and checked now, sampled later."""

import json
import shutil

import numpy as np
import pytest

from framework import load_run
from framework.errors import ConfigError
from tests.support.command import run, train

EXPERIMENT = """# @package _global_
name: pair
graph:
  theta: {evidence: [x, y], labels: [rate, half-life]}
  x: {parents: [theta], simulator: {_target_: tests.support.toy_simulators.add_noise}, labels: [mean, spread]}
  y: {parents: [theta], simulator: {_target_: tests.support.toy_simulators.first}}
priors:
  theta: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}
"""
BOTH = ["+graph.x.observed=observed.npy", "+graph.y.observed=observed.npy"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("amortised")
    (directory / "conf/experiment").mkdir(parents=True)
    (directory / "conf/experiment/pair.yaml").write_text(EXPERIMENT)
    np.save(directory / "observed.npy", np.zeros((3, 2)))
    np.save(directory / "one.npy", np.ones(2))
    result = train("--config-dir=conf", "experiment=pair", "inference.report=true", cwd=directory)
    assert result.returncode == 0, result.stdout + result.stderr
    return directory, result.stdout


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def sample(cwd, *arguments):
    return run("framework.sample", "outputs/pair", *arguments, cwd=cwd)


def test_a_run_without_an_observation_trains_and_reports_and_says_how_to_sample(trained):
    cwd, out = trained
    run_dir = cwd / "outputs/pair"
    command = "python -m framework.sample outputs/pair posterior graph.x.observed=FILE graph.y.observed=FILE"
    assert "No observation: " in out and command in out
    assert list((run_dir / "samples").iterdir()) == []
    assert "theta_sbc.png" in {path.name for path in (run_dir / "report").iterdir()}
    page = (run_dir / "report/report.html").read_text()
    assert command in page and "nothing was sampled" in page and "posterior predictive" not in page
    numbers = json.loads((run_dir / "report/summary.json").read_text())["nodes"]["theta"]
    assert list(numbers["calibration"]["sbc_p_values"]) == ["rate", "half-life"]


def test_it_has_finished_like_any_other(copied):
    result = train("--config-dir=conf", "experiment=pair", "inference.report=true", "+resume=true", cwd=copied)
    assert result.returncode == 0 and "has already finished" in result.stdout, result.stdout + result.stderr


def test_it_is_sampled_later_by_command_and_by_hand(copied):
    result = sample(copied, "posterior", "graph.x.observed=observed.npy", "graph.y.observed=observed.npy")
    assert "samples: outputs/pair/samples/posterior-2" in result.stdout, result.stderr
    assert "observed.npy (3 observations)" in result.stderr
    loaded = load_run(copied / "outputs/pair")
    arrays = loaded.samples("posterior-2")["theta"]
    assert arrays["samples"].shape == (3, 50, 2) and arrays["labels"].tolist() == ["rate", "half-life"]
    result = sample(copied, "predictive", "graph.x.observed=one.npy", "graph.y.observed=one.npy")
    predictive = load_run(copied / "outputs/pair").samples("predictive-2")
    assert predictive["x"]["samples"].shape == (1, 50, 2) and predictive["x"]["labels"].tolist() == ["mean", "spread"]
    assert "labels" not in predictive["y"]
    assert loaded.posterior("theta").sample(30, x={"x": [0.1, 0.2], "y": [0.1, 0.2]}).shape == (30, 2)
    with pytest.raises(ConfigError, match=r"the run has no observation; give your own, as in posterior\.sample"):
        loaded.posterior("theta").sample(30)
    with pytest.raises(
        ConfigError, match=r"samples/posterior: contains no samples; .* contains posterior-2, predictive-2"
    ):
        loaded.samples()


def test_an_observation_added_later_is_allowed_and_sampled(copied):
    assert sample(copied, "posterior", "graph.x.observed=one.npy", "graph.y.observed=one.npy").returncode == 0
    result = train("--config-dir=conf", "experiment=pair", "+resume=true", *BOTH, cwd=copied)
    assert result.returncode == 0, result.stderr
    assert "free        graph.x.observed  null → observed.npy" in result.stdout
    loaded = load_run(copied / "outputs/pair")
    assert loaded.samples()["theta"]["samples"].shape == (3, 50, 2)
    assert loaded.samples("posterior-2")["theta"]["samples"].shape == (1, 50, 2)  # as it was
    (copied / "observed.npy").unlink()  # the run has kept what was in it
    assert "samples/predictive-2" in sample(copied, "predictive").stdout


@pytest.mark.campaign
def test_labels_that_come_later_are_in_the_figures_and_files_of_a_finished_run(copied):
    def resumed(*labels):
        options = ["inference.report=true", "+resume=true", *BOTH, *labels]
        result = train("--config-dir=conf", "experiment=pair", *options, cwd=copied)
        assert result.returncode == 0, result.stderr
        figures = copied.glob("outputs/pair/report/*.png")
        return {path.name: path.read_bytes() for path in figures}, result.stdout

    before, _ = resumed()
    after, said = resumed("graph.x.labels=[first, second]", "graph.theta.labels=[a, b]")
    assert "free        graph.theta.labels.0  rate → a" in said and "training theta" not in said
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"theta_{figure}.png" for figure in ("sbc", "recovery", *(f"corner_{i}" for i in range(3)))} | {
        f"x_predictive_{i}.png" for i in range(3)
    }
    samples = load_run(copied / "outputs/pair").samples()
    assert samples["theta"]["labels"].tolist() == ["a", "b"]


def test_half_an_observation_is_a_mistake(trained, tmp_path):
    shutil.copytree(trained[0] / "conf", tmp_path / "conf")
    np.save(tmp_path / "observed.npy", np.zeros((3, 2)))
    result = train("--config-dir=conf", "experiment=pair", BOTH[0], cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("✗ graph.y.observed: missing; 'y' is evidence for 'theta'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "graph.x.observed: missing; the run has no observation, give its file: graph.x.observed=FILE"),
        (["graph.x.observed=one.npy"], "graph.y.observed: missing; the run has no observation"),
        (
            ["graph.x.observed=one.npy", "graph.y.observed=observed.npy"],
            "graph.y.observed: 3 observations, but graph.x.observed has 1;",
        ),
        (["graph.theta.observed=one.npy"], "graph.theta.observed: not an evidence node, only x, y"),
        (["graph.z.observed=one.npy"], "graph.z.observed=one.npy: no node 'z' in the run, only theta, x, y"),
    ],
)
def test_what_cannot_be_sampled_is_named(trained, arguments, message):
    result = sample(trained[0], "posterior", *arguments)
    assert (result.returncode, message in result.stderr) == (2, True), result.stderr
    assert "Traceback" not in result.stderr
