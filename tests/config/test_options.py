"""An option chosen on the command line, and an experiment's own block for the same group."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from framework.config.options import prefer_command_line
from framework.paths import CONF_DIR, register_bundle

register_bundle()

EXPERIMENT = """# @package _global_
defaults: [two_moons]
name: own
embedding: {_target_: torch.nn.Linear, out_features: 3}
network: {hidden_dim: 4}
optimizer: {_target_: torch.optim.SGD, lr: 0.5}
priors: {z: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}}
"""


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """Return a function that composes the experiment with overrides."""
    monkeypatch.setattr("hydra._internal.hydra.ConfigLoaderImpl", None)  # put back afterwards
    prefer_command_line()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/own.yaml").write_text(EXPERIMENT)

    def compose_with(*overrides):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            own = ["experiment=own", f"hydra.searchpath=[file://{tmp_path}]"]
            return OmegaConf.to_container(compose("config", overrides=[*own, *overrides]))

    return compose_with


def test_an_experiments_block_is_merged_with_the_default_option(composed):
    config = composed()
    assert config["embedding"] == {"_target_": "torch.nn.Linear", "out_features": 3}
    assert (config["optimizer"]["_target_"], config["optimizer"]["lr"]) == ("torch.optim.SGD", 0.5)
    assert config["optimizer"]["weight_decay"] == 0.0 and config["optimizer"]["scheduler"]["factor"] == 0.5


def test_what_the_command_line_chooses_replaces_an_experiments_block(composed):
    config = composed("embedding=mlp", "embedding.output_dim=8", "optimizer=adam")
    assert config["embedding"] == {
        "_target_": "framework.networks.MLP",
        "output_dim": 8,
        "hidden_dim": 128,
        "num_layers": 2,
    }
    assert (config["optimizer"]["_target_"], config["optimizer"]["lr"]) == ("torch.optim.Adam", 0.0005)


def test_a_block_without_a_target_sets_keys_of_whatever_is_chosen(composed):
    for option in ("nsf", "maf"):
        assert composed(f"network={option}")["network"]["hidden_dim"] == 4
