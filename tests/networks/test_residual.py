"""The linear regression of theta on the evidence that is taken off before the flow sees it."""

import pytest
import torch

from framework.networks import ResidualStandardize
from framework.networks.residual import MAX_FEATURES


def linear_data(num_rows=4_000, num_features=3, noise=0.1):
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(num_rows, num_features, generator=generator)
    weight = torch.arange(1.0, 2 * num_features + 1).reshape(num_features, 2)
    return e, e @ weight + 5 + noise * torch.randn(num_rows, 2, generator=generator), weight


def fitted(e, u):
    layer = ResidualStandardize(e.shape[1], u.shape[1])
    layer.fit(u, e)
    return layer


def test_it_finds_the_linear_part_and_the_scatter_around_it():
    e, u, weight = linear_data()
    layer = fitted(e, u)
    torch.testing.assert_close(layer.weight, weight, atol=0.01, rtol=0)
    torch.testing.assert_close(layer.sigma, torch.tensor([0.1, 0.1]), atol=0.005, rtol=0)


def test_what_is_left_of_linear_data_is_standard_normal():
    e, u, _ = linear_data()
    z = fitted(e, u)(u, e)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(2), atol=1e-3, rtol=0)


def test_the_inverse_undoes_it_and_the_determinant_is_that_of_the_map():
    e, u, _ = linear_data(10)
    layer = fitted(e, u)
    torch.testing.assert_close(layer.inverse(layer(u, e), e), u)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None], e[:1])[0], u[0])
    torch.testing.assert_close(layer.log_abs_det(), jacobian.det().log())


def test_useless_evidence_is_given_no_weight_even_when_there_is_much_of_it():
    generator = torch.Generator().manual_seed(1)
    e, u = torch.randn(300, 200, generator=generator), torch.randn(300, 2, generator=generator)
    layer = fitted(e[:200], u[:200])
    assert layer(u[200:], e[200:]).std() < 1.3 * layer(u[:200], e[:200]).std()  # no overfit to the first rows


@pytest.mark.parametrize("num_features", [0, MAX_FEATURES + 1])
def test_without_features_or_with_too_many_it_is_the_identity(num_features):
    layer, u = ResidualStandardize(num_features, 2), torch.randn(4, 2)
    assert torch.equal(layer(u, None), u)
    assert layer.log_abs_det() == 0


def test_evidence_that_repeats_itself_does_no_harm():
    e, u, _ = linear_data()
    layer = fitted(torch.cat([e, e, torch.zeros(len(e), 2)], dim=1), u)
    assert torch.isfinite(layer.weight).all()
    torch.testing.assert_close(layer.sigma, torch.tensor([0.1, 0.1]), atol=0.005, rtol=0)
