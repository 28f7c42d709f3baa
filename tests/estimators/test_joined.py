"""Weights joined to one tensor: the same numbers in the same module, with one gradient."""

import copy

import torch
from torch import nn
from torch.func import functional_call

from framework.estimators.joined import JoinedWeights


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def loss(module, x):
    return module(x).square().mean()


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_joining_changes_no_weight_and_later_changes_show_on_both_sides():
    module, untouched = network(), network()
    joined = JoinedWeights(dict(module.named_parameters()))
    assert torch.equal(joined.tensor, flat(untouched.parameters()))
    with torch.no_grad():
        joined.tensor[0] = 7.0
        module[2].bias[-1] = 8.0
    assert module[0].weight[0, 0] == 7.0
    assert joined.tensor[-1] == 8.0
    module.load_state_dict(untouched.state_dict())
    assert torch.equal(joined.tensor, flat(untouched.parameters()))


def test_the_gradient_is_the_same_whether_the_parts_are_used_the_parameters_or_both():
    module, x = network(), torch.randn(5, 3)
    apart = copy.deepcopy(module)
    loss(apart, x).backward()
    expected = flat(parameter.grad for parameter in apart.parameters())
    joined = JoinedWeights(dict(module.named_parameters()))
    for uses in ("parts", "parameters", "both"):
        joined.tensor.grad = None
        of_parts = functional_call(module, joined.parts(), x).square().mean()
        {"parts": of_parts, "parameters": loss(module, x), "both": (of_parts + loss(module, x)) / 2}[uses].backward()
        torch.testing.assert_close(joined.tensor.grad, expected)
        assert all(parameter.grad is None for parameter in module.parameters())


def test_parameters_left_out_keep_their_own_gradient():
    module, x = network(), torch.randn(5, 3)
    joined = JoinedWeights({"2.weight": module[2].weight})
    functional_call(module, joined.parts(), x).square().mean().backward()
    assert joined.tensor.grad.shape == (8,)
    assert module[2].weight.grad is None
    assert module[0].weight.grad is not None
