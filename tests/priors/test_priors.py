"""All priors: densities, samples and the map to the unconstrained space."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from framework.priors import (
    Cosine,
    Distribution,
    Fixed,
    LogNormal,
    LogUniform,
    Normal,
    PowerLaw,
    Prior,
    Product,
    Sine,
    Triangular,
    TruncatedNormal,
    Uniform,
)
from framework.rng import seed_sequence, seeded

D = torch.distributions
QUARTER = math.pi / 2
float64 = partial(torch.tensor, dtype=torch.float64)


class PowerLawReference(stats.rv_continuous):
    """theta^exponent on [a, b], in the form of textbooks."""

    def __init__(self, exponent: float, low: float, high: float) -> None:
        super().__init__(a=low, b=high)
        self.k = exponent + 1

    def _pdf(self, x):
        return self.k * x ** (self.k - 1) / (self.b**self.k - self.a**self.k)

    def _cdf(self, x):
        return (x**self.k - self.a**self.k) / (self.b**self.k - self.a**self.k)


class SineReference(stats.rv_continuous):
    """sin(theta) on [a, b]."""

    def _pdf(self, x):
        return np.sin(x) / (np.cos(self.a) - np.cos(self.b))

    def _cdf(self, x):
        return (np.cos(self.a) - np.cos(x)) / (np.cos(self.a) - np.cos(self.b))


@dataclass
class Case:
    prior: Prior
    reference: Any
    """The same distribution from SciPy."""


FAMILIES = {
    "uniform": Case(Uniform(-1, 3), stats.uniform(-1, 4)),
    "normal": Case(Normal(2, 0.5), stats.norm(2, 0.5)),
    "lognormal": Case(LogNormal(1, 0.7), stats.lognorm(s=0.7, scale=math.e)),
    "loguniform": Case(LogUniform(1e-3, 1e2), stats.loguniform(1e-3, 1e2)),
    "triangular": Case(Triangular(-1, 0.5, 2), stats.triang(0.5, -1, 3)),
    "triangular, mode at low": Case(Triangular(0, 0, 2), stats.triang(0, 0, 2)),
    "triangular, mode at high": Case(Triangular(0, 2, 2), stats.triang(1, 0, 2)),
    "power law, Salpeter": Case(PowerLaw(-2.35, 0.1, 100), PowerLawReference(-2.35, 0.1, 100)),
    "power law, distance": Case(PowerLaw(2, 0, 10), stats.powerlaw(3, scale=10)),
    "power law, singular at 0": Case(PowerLaw(-0.5, 0, 1), stats.powerlaw(0.5)),
    "power law, flat": Case(PowerLaw(0, 0, 2), stats.uniform(0, 2)),
    "power law, exponent -1": Case(PowerLaw(-1, 0.5, 4), stats.loguniform(0.5, 4)),
    "power law, near -1": Case(PowerLaw(-1.001, 0.5, 4), PowerLawReference(-1.001, 0.5, 4)),
    "sine": Case(Sine(), SineReference(a=0, b=math.pi)),
    "sine, cut": Case(Sine(0.3, 1.2), SineReference(a=0.3, b=1.2)),
    "cosine": Case(Cosine(), SineReference(a=0, b=math.pi)(loc=-QUARTER)),
    "cosine, cut": Case(Cosine(-0.2, 1.5), SineReference(a=QUARTER - 0.2, b=QUARTER + 1.5)(loc=-QUARTER)),
    "truncated normal": Case(TruncatedNormal(1, 2, -1, 4), stats.truncnorm(-1, 1.5, 1, 2)),
    "truncated normal, far above": Case(TruncatedNormal(0, 1, 8, 10), stats.truncnorm(8, 10)),
    "truncated normal, far below": Case(TruncatedNormal(0, 1, -10, -8), stats.truncnorm(-10, -8)),
    "truncated normal, nearly flat": Case(TruncatedNormal(0, 1000, -1, 1), stats.truncnorm(-1e-3, 1e-3, 0, 1000)),
    "truncated normal, half": Case(TruncatedNormal(0, 1, 0, math.inf), stats.halfnorm()),
}
TORCH_DISTRIBUTIONS = {
    "gamma": Case(Distribution(D.Gamma(float64(2), float64(3))), stats.gamma(2, scale=1 / 3)),
    "beta": Case(Distribution(D.Beta(float64(2), float64(3))), stats.beta(2, 3)),
    "student": Case(Distribution(D.StudentT(float64(5))), stats.t(5)),
    "pareto": Case(Distribution(D.Pareto(float64(2), float64(3))), stats.pareto(3, scale=2)),
}
UNIVARIATE = FAMILIES | TORCH_DISTRIBUTIONS
VECTORS = {
    "lists": Uniform([-1, 0, 5], [1, 2, 6]),
    "product": Product([Uniform(-1, 1), Fixed([0.3, 7]), Normal([0, 1], 2), D.Gamma(2.0, 1.0)]),
    "gamma batch": Distribution(D.Gamma(float64([2, 3]), float64([1, 1]))),
    "multivariate normal": Distribution(D.MultivariateNormal(float64([1, 2]), float64([[2, 0.5], [0.5, 1]]))),
    "dirichlet": Distribution(D.Dirichlet(float64([1, 2, 3]))),
}

families = pytest.mark.parametrize("case", FAMILIES.values(), ids=FAMILIES)
univariate = pytest.mark.parametrize("case", UNIVARIATE.values(), ids=UNIVARIATE)
ALL_PRIORS = {name: case.prior for name, case in UNIVARIATE.items()} | VECTORS
every_prior = pytest.mark.parametrize("prior", ALL_PRIORS.values(), ids=ALL_PRIORS)


def column(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1)


def family(prior: Prior) -> str:
    return type(prior).__name__


def draw(prior: Prior, num_samples: int, seed: int = 0) -> Tensor:
    with seeded(seed_sequence(seed)):
        return prior.sample(num_samples)


# Densities and samples


@univariate
def test_log_density_agrees_with_scipy(case):
    theta = case.reference.ppf(np.linspace(0.001, 0.999, 50))
    log_density = case.prior.log_prob(column(theta)).numpy()
    np.testing.assert_allclose(log_density, case.reference.logpdf(theta), rtol=1e-9, atol=1e-9)


@univariate
def test_samples_follow_the_distribution(case):
    samples = draw(case.prior, 5000)
    assert samples.shape == (5000, 1) and samples.dtype == torch.float32
    assert stats.kstest(samples.double().numpy().ravel(), case.reference.cdf).pvalue > 0.01


@families
def test_unconstrained_space_is_the_one_where_the_prior_is_standard_normal(case):
    u = np.linspace(-4, 4, 33)
    below, above = case.reference.ppf(stats.norm.cdf(u)), case.reference.isf(stats.norm.sf(u))
    theta = case.prior.from_unconstrained(column(u)).numpy().ravel()
    np.testing.assert_allclose(theta, np.where(u < 0, below, above), rtol=1e-8, atol=1e-12)


@every_prior
def test_samples_are_inside_the_support_and_reproducible(prior):
    samples = draw(prior, 1000)
    assert samples.shape == (1000, prior.dim)
    assert prior.log_prob(samples).isfinite().all()
    assert torch.equal(samples, draw(prior, 1000))
    assert not torch.equal(samples, draw(prior, 1000, seed=1))


@pytest.mark.parametrize("theta", [-1.001, 3.001, math.inf, -math.inf, math.nan])
def test_log_density_is_minus_infinity_outside_the_support(theta):
    assert Uniform(-1, 3).log_prob(torch.tensor([[theta]])).item() == -math.inf
    assert Distribution(D.Uniform(-1.0, 3.0)).log_prob(torch.tensor([[theta]])).item() == -math.inf


@pytest.mark.parametrize("prior", [LogNormal(0, 1), LogUniform(1, 2), Sine(), TruncatedNormal(0, 1, 0, 1)], ids=family)
def test_log_density_of_negative_values_is_minus_infinity_where_the_support_is_positive(prior):
    assert prior.log_prob(torch.tensor([[-0.5]])).item() == -math.inf


def test_one_parameter_outside_its_support_is_enough():
    assert Uniform([0, 0], [1, 1]).log_prob(torch.tensor([[0.5, 2.0], [0.5, 0.5]])).tolist() == [-math.inf, 0.0]


def test_a_list_of_parameters_is_independent_and_a_single_value_holds_for_all():
    prior = Normal([0.0, 10.0], 2.0)
    theta = torch.tensor([[1.0, 9.0]], dtype=torch.float64)
    assert prior.dim == prior.latent_dim == 2
    assert prior.log_prob(theta).item() == pytest.approx(stats.norm.logpdf([1, 9], [0, 10], 2).sum())


@every_prior
def test_samples_are_not_outside_and_between_the_bounds(prior):
    samples, (low, high) = draw(prior, 1000), prior.bounds
    assert not prior.is_outside(samples).any()
    assert low.shape == high.shape == (prior.dim,)
    assert ((low.float() <= samples) & (samples <= high.float())).all()


@every_prior
def test_what_is_beyond_a_bound_is_outside_but_not_what_rounding_has_moved_there(prior):
    theta = draw(prior, 1)
    for bound, sign in zip(prior.bounds, (-1, 1), strict=True):
        for index in bound.isfinite().nonzero().flatten().tolist():
            moved = theta.clone()
            moved[0, index] = bound[index] + sign * max(1e-3, 1e-3 * bound[index].abs())
            assert prior.is_outside(moved).all()


def test_a_theta_on_a_bound_that_32_bits_cannot_hold_is_inside():
    prior = Product([Uniform([0.1, -0.3], [0.2, 0.7]), Fixed(1 / 3)])
    corners = torch.stack(prior.bounds).float()
    assert not prior.is_outside(corners).any()
    assert prior.log_prob(corners).isneginf().any()  # some were moved beyond


def test_a_theta_without_density_is_outside_whatever_its_bounds():
    assert Distribution(D.Dirichlet(float64([1, 2, 3]))).is_outside(torch.tensor([[0.5, 0.4, 0.3], [0.5, 0.2, 0.3]]))[0]
    assert LogNormal(0, 1).is_outside(torch.tensor([[0.0], [1e-3]])).tolist() == [True, False]


# The map to the unconstrained space


@every_prior
def test_round_trip(prior):
    with seeded(seed_sequence(1)):
        u = (2 * torch.randn(1000, prior.latent_dim, dtype=torch.float64)).clamp(-5, 5)
    theta = prior.from_unconstrained(u)
    torch.testing.assert_close(prior.to_unconstrained(theta), u, rtol=1e-6, atol=1e-6)


@families
def test_standard_normal_density_is_promised_in_the_unconstrained_space(case):
    u = column(np.linspace(-4, 4, 33))
    log_density = case.prior.log_prob(case.prior.from_unconstrained(u)) + case.prior.log_abs_det(u)
    np.testing.assert_allclose(log_density.numpy(), stats.norm.logpdf(u.numpy().ravel()), rtol=0, atol=1e-9)


@every_prior
def test_log_abs_det_is_that_of_the_jacobian(prior):
    free = [index for index in range(prior.dim) if not is_fixed(prior, index)][: prior.latent_dim]
    u = torch.linspace(-1, 1, prior.latent_dim, dtype=torch.float64)
    jacobian = numerical_jacobian(prior.from_unconstrained, u)[free]
    assert prior.log_abs_det(u[None]).item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-6)


def is_fixed(prior: Prior, index: int) -> bool:
    return len(draw(prior, 10)[:, index].unique()) == 1


def numerical_jacobian(function, u: Tensor, step: float = 1e-4) -> Tensor:
    steps = step * torch.eye(len(u), dtype=u.dtype)
    return (function(u + steps) - function(u - steps)).T / (2 * step)


@univariate
def test_density_in_the_unconstrained_space_integrates_to_one(case):
    u = torch.linspace(-30, 30, 20001, dtype=torch.float64)
    log_density = case.prior.log_prob(case.prior.from_unconstrained(u[:, None])) + case.prior.log_abs_det(u[:, None])
    assert torch.trapezoid(log_density.exp(), u).item() == pytest.approx(1, abs=1e-4)


@every_prior
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite_and_inside_the_support(prior, dtype):
    u = torch.tensor([-1000, -40, 40, 1000], dtype=dtype)[:, None].repeat(1, prior.latent_dim)
    theta = prior.from_unconstrained(u)
    assert theta.isfinite().all()
    assert prior.log_prob(theta)[1:3].isfinite().all()
    assert prior.to_unconstrained(theta).isfinite().all()
    assert prior.log_abs_det(u).isfinite().all()


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_have_a_finite_place_in_the_unconstrained_space(case, dtype):
    bounds = torch.stack((case.prior.low, case.prior.high)).to(dtype)
    assert case.prior.to_unconstrained(bounds[bounds.isfinite()][:, None]).isfinite().all()


@given(low=st.floats(-1e4, 1e4, width=32), width=st.floats(1.0, 1e4, width=32), u=st.floats(-50, 50))
def test_float32_rounding_never_leaves_an_interval(low, width, u):
    prior = Uniform(low, low + width)
    theta = prior.from_unconstrained(torch.tensor([[u]], dtype=torch.float32)).item()
    assert low < theta < low + width
