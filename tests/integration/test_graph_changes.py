"""A resumed run whose graph gains a node, and loses it again."""

import json

import numpy as np
import pytest

from framework import load_run
from tests.support.command import train

EXPERIMENT = """# @package _global_
name: pair
graph:
  theta: {evidence: [x]}
  x: {parents: [theta], simulator: {_target_: tests.support.toy_simulators.add_noise}, observed: observed.npy}
priors:
  theta: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}
"""
ALPHA = (
    "+graph.alpha={parents: [theta], evidence: [x, theta],"
    " simulator: {_target_: tests.support.toy_simulators.add_noise_torch}, backend: torch}"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    directory = tmp_path_factory.mktemp("project")
    (directory / "conf/experiment").mkdir(parents=True)
    (directory / "conf/experiment/pair.yaml").write_text(EXPERIMENT)
    np.save(directory / "observed.npy", np.zeros(2))
    return directory


def digests(project, node):
    manifest = json.loads((project / "outputs/pair/checkpoints/latest/manifest.json").read_text())
    return {name: entry for name, entry in manifest["files"].items() if name.startswith(f"{node}/")}


def test_a_node_that_comes_is_trained_and_one_that_goes_leaves_its_files(project):
    def run(*overrides):
        result = train("--config-dir=conf", "experiment=pair", *overrides, cwd=project)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run()
    alone = digests(project, "theta")

    said = run("+resume=true", ALPHA)
    assert "graph.alpha" in said and "added: training from scratch" in said
    assert "simulating again, because nodes were added or removed (alpha); " in said
    assert "the old simulations are kept in outputs/pair/simulations.old-1" in said
    assert "\ntraining from scratch: alpha\n" in said
    assert "differ from before" not in said and "training theta" not in said
    assert digests(project, "theta") == alone
    loaded = load_run(project / "outputs/pair")
    assert list(loaded.joint_posterior.estimators) == ["theta", "alpha"]  # alpha's evidence first
    for node in ("theta", "alpha"):
        drawn = loaded.posterior(node).sample(50).numpy()
        np.testing.assert_array_equal(drawn, loaded.samples()[node]["samples"][0])

    said = run("+resume=true")
    assert "graph.alpha" in said and "removed: its files are kept" in said
    assert digests(project, "theta") == alone and digests(project, "alpha")
    assert list(load_run(project / "outputs/pair").joint_posterior.estimators) == ["theta"]
