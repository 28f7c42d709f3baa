"""Embedding networks: shapes, invariances and standardisation."""

import pytest
import torch

from framework.errors import ConfigError
from framework.networks import MLP, Conv1d, EvidenceEmbedding, PermutationInvariant, Standardize


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (MLP((3, 4), output_dim=5), (3, 4)),
        (Conv1d((50,), output_dim=5), (50,)),
        (Conv1d((2, 31), output_dim=5, channels=[4, 8], kernel_size=4), (2, 31)),
        (PermutationInvariant((7, 3), output_dim=5), (7, 3)),
    ],
)
def test_an_embedding_maps_each_row_to_a_vector(network, shape):
    x = torch.randn(6, *shape)
    assert network(x).shape == (6, 5)
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))


def test_a_set_embedding_ignores_the_order_of_the_elements():
    network, x = PermutationInvariant((7, 3), output_dim=5), torch.randn(4, 7, 3)
    torch.testing.assert_close(network(x[:, torch.randperm(7)]), network(x))


def test_a_set_embedding_sees_how_many_elements_there_are():
    network, x = PermutationInvariant((7, 3), output_dim=5), torch.randn(4, 7, 3)
    assert not torch.allclose(network(torch.cat([x, x], dim=1)), network(x))


def test_conv1d_refuses_what_is_not_a_series():
    with pytest.raises(ValueError, match="expected a series of shape"):
        Conv1d((2, 3, 4), output_dim=5)


def test_standardised_data_have_mean_zero_and_std_one():
    x = torch.randn(1000, 3) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 1e4, -5.0])
    layer = Standardize((3,))
    layer.fit(x)
    torch.testing.assert_close(layer(x).mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(layer(x).std(0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(layer.inverse(layer(x)), x)
    expected = torch.autograd.functional.jacobian(layer, x[:1]).reshape(3, 3).diagonal().log().sum()
    torch.testing.assert_close(layer.log_abs_det(), expected)


def test_a_constant_entry_is_shifted_but_not_blown_up():
    layer = Standardize((2,))
    layer.fit(torch.tensor([[5.0, 1.0], [5.0, 2.0]]))
    assert layer.std[0] == 1
    assert layer(torch.tensor([[5.0, 1.5]])).tolist() == [[0.0, 0.0]]


def test_structured_standardisation_keeps_the_proportions_of_a_value():
    x = torch.randn(100, 20) * torch.linspace(1, 3, 20)
    layer = Standardize((20,), "structured")
    layer.fit(x)
    assert layer.std.numel() == 1
    torch.testing.assert_close(layer(x).std(), torch.tensor(1.0))


def test_evidence_of_several_nodes_is_embedded_and_concatenated():
    blocks = {"a": {"_target_": "torch.nn.Flatten"}, "b": {"_target_": "framework.networks.MLP", "output_dim": 4}}
    embedding = EvidenceEmbedding({"a": (2, 3), "b": (5,)}, blocks, "embedding")
    assert embedding.output_dim == 6 + 4
    assert embedding({"a": torch.randn(7, 2, 3), "b": torch.randn(7, 5)}).shape == (7, 10)


def test_evidence_with_one_row_goes_with_every_row_of_the_rest():
    embedding = EvidenceEmbedding({"a": (2,), "b": (3,)}, {"_target_": "torch.nn.Flatten"}, "embedding")
    a, b = torch.randn(1, 2), torch.randn(5, 3)
    torch.testing.assert_close(embedding({"a": a, "b": b}), embedding({"a": a.expand(5, 2), "b": b}))


def test_any_module_can_embed_lazy_ones_too():
    block = {"_target_": "torch.nn.LazyLinear", "out_features": 3}
    assert EvidenceEmbedding({"x": (4,)}, block, "embedding").output_dim == 3


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2}, "does not accept evidence of shape"),
        ({"y": {"_target_": "torch.nn.Flatten"}}, "one for each of x; wrong: x, y"),
        ({"_target_": "framework.networks.MLP", "output_dim": 2, "hiden_dim": 3}, "did you mean 'hidden_dim'"),
    ],
)
def test_an_embedding_that_does_not_fit_names_its_key(blocks, message):
    with pytest.raises(ConfigError, match=f"graph.z.embedding.*{message}"):
        EvidenceEmbedding({"x": (4,)}, blocks, "graph.z.embedding")
