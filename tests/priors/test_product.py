"""Products of priors and fixed parameters."""

import math

import pytest
import torch
from scipy import stats

from framework.priors import Fixed, Normal, Product, Uniform


def test_fixed_parameters_are_in_theta_but_not_in_the_unconstrained_space():
    prior = Product([Normal(1, 2), Fixed([0.3, 7]), Uniform(0, 4)])
    assert (prior.dim, prior.latent_dim) == (4, 2)
    theta = prior.from_unconstrained(torch.tensor([[1.0, 0.0]]))
    assert theta.tolist() == [[3.0, pytest.approx(0.3), 7.0, 2.0]]
    assert prior.to_unconstrained(theta).tolist() == [[1.0, 0.0]]
    assert prior.sample(5)[:, 1:3].unique(dim=0).tolist() == [[pytest.approx(0.3), 7.0]]


def test_product_multiplies_densities_and_fixed_parameters_count_as_none():
    prior = Product([Normal(1, 2), Fixed([0.3, 7]), Uniform(0, 4)])
    theta = torch.tensor([[2.0, 0.3, 7.0, 1.0]], dtype=torch.float64)
    assert prior.log_prob(theta).item() == pytest.approx(stats.norm.logpdf(2, 1, 2) - math.log(4))


def test_fixed_alone_has_an_empty_unconstrained_space():
    prior = Fixed([1, 2])
    assert prior.to_unconstrained(prior.sample(3)).shape == (3, 0)
    assert prior.from_unconstrained(torch.zeros(3, 0)).tolist() == [[1, 2]] * 3
    assert prior.log_abs_det(torch.zeros(3, 0)).tolist() == [0, 0, 0]


def test_results_keep_the_type_of_the_input():
    prior = Product([Uniform(0, 1), Fixed(2), torch.distributions.Gamma(2.0, 1.0)])
    for dtype in (torch.float32, torch.float64):
        theta = prior.sample(3).to(dtype)
        u = prior.to_unconstrained(theta)
        outputs = prior.log_prob(theta), u, prior.from_unconstrained(u), prior.log_abs_det(u)
        assert {output.dtype for output in outputs} == {dtype}
