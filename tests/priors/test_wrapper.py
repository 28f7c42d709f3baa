"""torch distributions as priors."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from framework.errors import ConfigError
from framework.priors import Distribution, Prior, Uniform, as_prior
from framework.rng import seed_sequence, seeded

D = torch.distributions
float64 = partial(torch.tensor, dtype=torch.float64)


def draw(prior: Prior, num_samples: int) -> torch.Tensor:
    with seeded(seed_sequence(0)):
        return prior.sample(num_samples)


def test_multivariate_normal_is_its_own_unconstrained_space():
    mean, covariance = float64([1, 2]), float64([[2, 0.5], [0.5, 1]])
    prior = Distribution(D.MultivariateNormal(mean, covariance))
    theta = torch.tensor([[0.0, 1.0], [3.0, 2.0]], dtype=torch.float64)
    expected = stats.multivariate_normal(mean, covariance).logpdf(theta.numpy())
    np.testing.assert_allclose(prior.log_prob(theta).numpy(), expected, rtol=1e-9)
    assert torch.equal(prior.to_unconstrained(theta), theta)
    np.testing.assert_allclose(np.cov(draw(prior, 20000).T.numpy()), covariance, atol=0.1)


def test_dirichlet_has_one_unconstrained_dimension_less():
    prior = Distribution(D.Dirichlet(float64([1, 2, 3])))
    assert (prior.dim, prior.latent_dim) == (3, 2)
    theta = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    assert prior.log_prob(theta).item() == pytest.approx(stats.dirichlet([1, 2, 3]).logpdf([0.2, 0.3, 0.5]), rel=1e-9)


@pytest.mark.parametrize(
    "component",
    [
        D.Normal(torch.tensor([-2.0, 2.0]), torch.ones(2)),
        D.Gamma(torch.tensor([2.0, 3.0]), torch.ones(2)),
        D.MultivariateNormal(torch.zeros(2, 2), torch.eye(2)),
        D.Independent(D.Gamma(torch.ones(2, 3), torch.ones(2, 3)), 1),
    ],
    ids=lambda component: type(component).__name__,
)
def test_mixtures_are_priors(component):
    mixture = D.MixtureSameFamily(D.Categorical(torch.tensor([0.3, 0.7])), component)
    prior = as_prior(mixture, "priors.z")
    theta = draw(prior, 100)
    torch.testing.assert_close(prior.log_prob(theta), mixture.log_prob(theta.squeeze(-1)))
    torch.testing.assert_close(prior.from_unconstrained(prior.to_unconstrained(theta)), theta)


def test_a_prior_passes_through_as_prior():
    prior = Uniform(0, 1)
    assert as_prior(prior, "priors.z") is prior


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (D.Poisson(torch.tensor([1.0, 2.0])), "priors.z: Poisson: is a discrete distribution"),
        (D.OneHotCategorical(torch.ones(3)), "priors.z: OneHotCategorical: is a discrete distribution"),
        (D.Normal(torch.zeros(2, 3), 1.0), r"batch_shape \(2, 3\) and event_shape \(\)"),
        (D.LKJCholesky(3), r"event_shape \(3, 3\); expected a distribution over a vector"),
        (
            D.MixtureSameFamily(
                D.Categorical(torch.ones(2)), D.Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]))
            ),
            "components have different supports",
        ),
        ("Normal", "priors.z='Normal': expected a prior of framework.priors or torch.distributions"),
    ],
    ids=["poisson", "categorical", "matrix of scalars", "matrix", "mixture of supports", "no distribution"],
)
def test_distributions_that_cannot_be_priors_are_refused(distribution, message):
    with pytest.raises(ConfigError, match=message):
        as_prior(distribution, "priors.z")


def test_parameters_of_float32_take_theta_of_any_type():
    prior = Distribution(D.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    expected = -math.log(2 * math.pi)
    for dtype in (torch.float32, torch.float64):
        assert prior.log_prob(torch.zeros(1, 2, dtype=dtype)).item() == pytest.approx(expected)


def test_wrapping_a_distribution_leaves_the_generator_alone():
    state = torch.get_rng_state()
    Distribution(D.Gamma(2.0, 1.0))
    assert torch.equal(torch.get_rng_state(), state)
