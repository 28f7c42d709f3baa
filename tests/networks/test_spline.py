"""The spline of neural spline flows: zuko's function, its inverse and its derivatives, for less work."""

import pytest
import torch
import zuko

from framework.estimators.flow import neural_spline_flow
from framework.networks import RationalQuadraticSpline
from framework.rng import seed_sequence, seeded


@pytest.fixture
def parameters():
    """Unconstrained sizes (rows, 2, 8) and slopes (rows, 7), strongly curved, and x in and out of [-5, 5]."""
    with seeded(seed_sequence(0)):
        sizes, slopes = 2 * torch.randn(1000, 2, 8), 2 * torch.randn(1000, 7)
        x = 3 * torch.randn(1000)
    return [value.double().requires_grad_() for value in (sizes, slopes, x)]


def test_values_and_gradients_are_those_of_zuko(parameters):
    sizes, slopes, x = parameters
    ours = RationalQuadraticSpline(sizes, slopes).call_and_ladj(x)
    zukos = zuko.transforms.MonotonicRQSTransform(*sizes.unbind(-2), slopes).call_and_ladj(x)
    torch.testing.assert_close(ours, zukos)
    ours, zukos = (torch.autograd.grad(y.sum() + ladj.sum(), parameters) for y, ladj in (ours, zukos))
    torch.testing.assert_close(ours, zukos)


def test_the_inverse_undoes_it(parameters):
    sizes, slopes, x = parameters
    spline = RationalQuadraticSpline(sizes, slopes)
    torch.testing.assert_close(spline.inv(spline(x)), x)


def test_it_is_increasing_and_the_identity_outside_its_bounds(parameters):
    spline = RationalQuadraticSpline(parameters[0][0], parameters[1][0])
    y, ladj = spline.call_and_ladj(torch.tensor([-1e6, -5.0, 5.0, 7.5], dtype=torch.double))
    assert y.tolist() == pytest.approx([-1e6, -5.0, 5.0, 7.5])
    assert ladj.tolist() == pytest.approx([0, 0, 0, 0])
    assert (spline(torch.linspace(-6, 6, 10_000, dtype=torch.double)).diff() > 0).all()


@pytest.mark.parametrize(("features", "context", "options"), [(3, 2, {"bins": 5, "slope": 1e-2}), (2, 0, {})])
def test_the_flow_is_zukos_with_the_same_weights(features, context, options):
    ours, zukos = (make(features, context, **options) for make in (neural_spline_flow, zuko.flows.NSF))
    ours.load_state_dict(zukos.state_dict())
    u, s = torch.randn(100, features), torch.randn(100, context) if context else None
    torch.testing.assert_close(ours(s).log_prob(u), zukos(s).log_prob(u), atol=1e-4, rtol=1e-4)
