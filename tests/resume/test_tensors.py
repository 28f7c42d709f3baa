"""The weights that do not fit a changed configuration are found without building them."""

import dataclasses

import numpy as np
import pytest
import torch

from framework.checkpoint import CheckpointStore
from framework.config.parse import parse_config
from framework.estimators import Estimator, spec_of
from framework.estimators.flow import FAMILIES
from framework.estimators.weight_files import init_parameters
from framework.resume.tensors import changed_tensors, estimator_shapes
from framework.simulation import SimulationStore
from tests.support.toy_run import composed

SHAPES = {"z": (2,), "x": (20,)}


def config_of(*overrides):
    return parse_config(composed(*overrides)[0])


@pytest.mark.parametrize("network", ["gaussian", *map(str.lower, FAMILIES)])
@pytest.mark.parametrize("embedding", ["identity", "mlp", "conv1d"])
def test_the_shapes_are_those_of_the_real_estimator(network, embedding):
    config = config_of(f"network={network}", f"embedding={embedding}")
    real = Estimator(spec_of(config, "z", SHAPES)).state_dict()
    assert estimator_shapes(config, "z", SHAPES) == {name: tuple(value.shape) for name, value in real.items()}


def test_no_weight_is_allocated():
    huge = config_of("network=gaussian", "network.hidden_dim=1000000", "network.num_layers=9")  # 32 TB
    assert (1_000_000, 1_000_000) in estimator_shapes(huge, "z", SHAPES).values()


@pytest.fixture
def stored(tmp_path):
    """The newest generation of a run with a Gaussian estimator, and the directory of its simulations."""
    estimator = Estimator(spec_of(config_of("network=gaussian", "network.hidden_dim=64"), "z", SHAPES))
    files = {"z/init_parameters.pth": init_parameters(estimator)}
    SimulationStore(tmp_path / "simulations", 0, SHAPES)
    return CheckpointStore(tmp_path / "checkpoints").commit(files, {"nodes": ["z"]}), tmp_path / "simulations"


def test_every_tensor_that_differs_is_named_with_both_shapes(stored):
    assert changed_tensors(config_of("network=gaussian", "network.hidden_dim=64"), *stored) == []
    changed = changed_tensors(config_of("network=gaussian", "network.hidden_dim=128"), *stored)
    assert ("z.density.mean.layers.1.bias", "(64,)", "(128,)") in changed
    other = changed_tensors(config_of("network=gaussian", "network.hidden_dim=64", "network.num_layers=4"), *stored)
    assert {old for _, old, _ in other} >= {"—"}


def test_a_node_that_is_gone_has_no_tensors(stored):
    config = config_of("network=gaussian")
    assert changed_tensors(dataclasses.replace(config, graph={}), *stored) == []


def test_priors_are_built_with_real_numbers():
    config = config_of("priors.z.low=[-1, -2]")
    assert estimator_shapes(config, "z", SHAPES)["standardize.mean"] == (2,)
    assert np.isfinite(torch.empty(3).numpy()).size == 3  # and nothing else goes to the meta device afterwards
