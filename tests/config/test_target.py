"""Blocks with a `_target_`: checked against the signature before anything is called."""

import pytest
import torch

from framework.config.target import build, build_part
from framework.errors import ConfigError


def double(x, factor=2):
    return x * factor


class Broken:
    def __init__(self, table):
        raise KeyError("row")


def test_a_class_is_built_with_its_keys():
    linear = build({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}, "network")
    assert linear.weight.shape == (3, 2)


def test_a_function_is_bound_not_called():
    assert build({"_target_": f"{__name__}.double", "factor": 5}, "simulator")(2) == 10


def test_nested_blocks_are_built_first():
    block = {
        "_target_": "torch.nn.Sequential",
        "_args_": [{"_target_": "torch.nn.ReLU"}, {"_target_": "torch.nn.Tanh"}],
    }
    assert [type(layer) for layer in build(block, "embedding")] == [torch.nn.ReLU, torch.nn.Tanh]


def test_extra_arguments_continuely_where_they_are_taken():
    assert isinstance(build({"_target_": "torch.nn.Flatten"}, "embedding", input_shape=(3,)), torch.nn.Flatten)
    assert build({"_target_": "torch.nn.Linear", "out_features": 1}, "network", in_features=4).in_features == 4


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"_target_": "torch.nn.Linea"}, r"network\._target_=torch\.nn\.Linea: cannot be imported"),
        ({"_target_": "no_such_module.Thing"}, r"network\._target_=no_such_module\.Thing: cannot be imported"),
        ({"_target_": "torch.nn.Linear", "in_feature": 2}, "takes no 'in_feature'.*did you mean 'in_features'"),
        ({"_target_": "torch.nn.Linear", "in_features": 2}, "rejected its arguments: .*out_features"),
        ({"in_features": 2}, "network: expected a mapping with a _target_"),
        ({"_target_": 1}, r"network\._target_=1: cannot be imported"),
        ({"_target_": "math.pi"}, r"network\._target_=math\.pi: is a float, expected a class or function"),
        ({"_target_": "math"}, r"network\._target_=math: is a module, expected a class or function"),
        ({"_target_": f"{__name__}.Broken", "table": 3}, r"Broken rejected its arguments: KeyError: 'row' \(table=3\)"),
        ({"_target_": "torch.nn.ReLU", "_args_": 3}, r"network\._args_=3: expected a list"),
    ],
)
def test_a_bad_block_names_its_key(block, message):
    with pytest.raises(ConfigError, match=message):
        build(block, "network")


def test_a_part_of_another_kind_is_refused():
    assert build_part(torch.nn.Module, {"_target_": "torch.nn.ReLU"}, "embedding").training
    for target in ("builtins.dict", "os.getcwd"):
        with pytest.raises(ConfigError, match=rf"embedding\._target_={target}: expected a subclass of torch\.nn"):
            build_part(torch.nn.Module, {"_target_": target}, "embedding")
