"""Power laws and truncated normals over their whole range of parameters."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from framework.priors import PowerLaw, TruncatedNormal

reproducible = settings(deadline=None, derandomize=True, max_examples=200)


def column(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@reproducible
@given(
    exponent=st.floats(-5, 5) | st.sampled_from([-1.0, -1 + 1e-9, -1 - 1e-13]),
    low=st.floats(0.01, 10),
    ratio=st.floats(1.01, 1e4),
    u=st.floats(-5, 5),
)
def test_power_laws_round_trip_for_any_exponent(exponent, low, ratio, u):
    prior = PowerLaw(exponent, low, low * ratio)
    theta = prior.from_unconstrained(column(u))
    # One rounding of theta moves u by this much.
    spacing = 4e-16 * theta.item() / math.exp(prior.log_abs_det(column(u)).item())
    assert prior.to_unconstrained(theta).item() == pytest.approx(u, abs=1e-7 + 10 * spacing)


@reproducible
@given(
    mean=st.floats(-3, 3),
    bounds=st.lists(st.floats(-20, 20), min_size=2, max_size=2).filter(lambda pair: abs(pair[1] - pair[0]) > 0.05),
    u=st.floats(-4, 4),
)
def test_truncated_normals_are_accurate_anywhere_in_the_tails(mean, bounds, u):
    low, high = sorted(bounds)
    theta = TruncatedNormal(mean, 1.0, low, high).from_unconstrained(column(u)).item()
    reference = stats.truncnorm(low - mean, high - mean, mean)
    expected = reference.ppf(stats.norm.cdf(u)) if u < 0 else reference.isf(stats.norm.sf(u))
    assert theta == pytest.approx(expected, rel=1e-7, abs=1e-7)
