"""Simulation-based calibration and expected coverage: an exact posterior passes, a wrong one fails."""

import numpy as np
import pytest
import torch

from framework.inference.diagnostics import (
    band_fraction,
    binomial_band,
    coverage_p_value,
    fixed_parameters,
    posterior_summary,
    rank_p_values,
    sbc_ranks,
    tarp_coverage,
)

NUM_SIMULATIONS, NUM_SAMPLES = 500, 199


def gaussian_problem(dim=2, shift=0.0, width=1.0):
    """Draw (theta, x) from N(0, 1) and N(theta, 1), then samples of the exact posterior N(x / 2, 1 / 2), distorted."""
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(NUM_SIMULATIONS, dim))
    x = theta + rng.normal(size=theta.shape)
    noise = rng.normal(size=(NUM_SIMULATIONS, NUM_SAMPLES, dim))
    return theta, x[:, None] / 2 + np.sqrt(0.5) * (shift + width * noise)


def sbc_p_values(theta, samples):
    return rank_p_values(sbc_ranks(theta, samples), samples.shape[1])


def test_rank_is_the_number_of_samples_below_the_true_value():
    theta = np.array([[0.5, -1.0], [10.0, 2.5]])
    samples = np.array([[[0.1, 0.0], [0.9, 1.0], [0.2, 2.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    np.testing.assert_array_equal(sbc_ranks(theta, samples), [[2, 0], [3, 2]])


def test_ranks_of_tensors_equal_those_of_arrays():
    theta, samples = gaussian_problem()
    tensors = torch.from_numpy(theta), torch.from_numpy(samples)
    np.testing.assert_array_equal(sbc_ranks(*tensors), sbc_ranks(theta, samples))


def test_ties_are_broken_at_random_and_reproducibly():
    theta, samples = np.zeros((4000, 1)), np.zeros((4000, 4, 1))
    ranks = sbc_ranks(theta, samples, seed=3)
    assert rank_p_values(ranks, 4)[0] > 0.01
    np.testing.assert_array_equal(ranks, sbc_ranks(theta, samples, seed=3))
    assert (ranks != sbc_ranks(theta, samples, seed=4)).any()


def test_ranks_of_an_exact_posterior_are_uniform():
    assert (sbc_p_values(*gaussian_problem()) > 0.05).all()


@pytest.mark.parametrize("distortion", [{"shift": 0.3}, {"shift": -0.3}, {"width": 0.6}, {"width": 1.7}])
def test_biased_overconfident_and_underconfident_posteriors_are_found_by_sbc(distortion):
    assert (sbc_p_values(*gaussian_problem(**distortion)) < 1e-3).all()


def test_evenly_spread_ranks_have_p_value_one_and_equal_ranks_have_none():
    assert rank_p_values(np.arange(10)[:, None], num_samples=9)[0] == 1.0
    assert rank_p_values(np.zeros((50, 1), dtype=int), num_samples=9)[0] < 1e-30


def test_tarp_of_an_exact_posterior_is_the_diagonal():
    alpha, coverage = tarp_coverage(*gaussian_problem(), seed=0)
    np.testing.assert_allclose(coverage, alpha, atol=0.06)
    assert coverage_p_value(alpha, coverage, NUM_SIMULATIONS) > 0.05
    assert (alpha[0], alpha[-1], coverage[0], coverage[-1]) == (0, 1, 0, 1)


def test_tarp_of_an_overconfident_posterior_is_above_then_below_the_diagonal():
    alpha, coverage = tarp_coverage(*gaussian_problem(width=0.5), seed=0)
    assert coverage[10] > alpha[10] + 0.05
    assert coverage[90] < alpha[90] - 0.05
    assert coverage_p_value(alpha, coverage, NUM_SIMULATIONS) < 1e-3


def test_tarp_of_an_underconfident_posterior_is_below_then_above_the_diagonal():
    alpha, coverage = tarp_coverage(*gaussian_problem(width=2.0), seed=0)
    assert coverage[10] < alpha[10]
    assert coverage[90] > alpha[90] + 0.03
    assert coverage_p_value(alpha, coverage, NUM_SIMULATIONS) < 1e-3


def test_tarp_sees_a_wrong_correlation_that_sbc_cannot_see():
    rng = np.random.default_rng(0)
    theta = np.repeat(rng.normal(size=(NUM_SIMULATIONS, 1)), 2, axis=1)
    samples = rng.normal(size=(NUM_SIMULATIONS, NUM_SAMPLES, 2))
    alpha, coverage = tarp_coverage(theta, samples, seed=0)
    assert (sbc_p_values(theta, samples) > 0.01).all()
    assert coverage_p_value(alpha, coverage, NUM_SIMULATIONS) < 0.01


def test_tarp_of_an_exact_posterior_is_the_diagonal_for_a_handful_of_samples_too():
    theta, samples = gaussian_problem()
    assert coverage_p_value(*tarp_coverage(theta, samples[:, :3], seed=0), NUM_SIMULATIONS) > 0.05


def test_tarp_does_not_depend_on_the_units_of_the_parameters():
    theta, samples = gaussian_problem()
    units = np.array([1024.0, 1 / 64])
    _, coverage = tarp_coverage(theta, samples, seed=1)
    _, scaled = tarp_coverage(theta * units, samples * units, seed=1)
    np.testing.assert_array_equal(coverage, scaled)


def test_tarp_is_a_function_of_the_seed():
    problem = gaussian_problem()
    np.testing.assert_array_equal(tarp_coverage(*problem, seed=1), tarp_coverage(*problem, seed=1))
    assert not np.array_equal(tarp_coverage(*problem, seed=1), tarp_coverage(*problem, seed=2))


def test_a_fixed_parameter_changes_nothing_in_tarp():
    theta, samples = gaussian_problem(dim=2, width=0.5)
    theta[:, 1], samples[..., 1] = 0.3, 0.3
    alpha, coverage = tarp_coverage(theta, samples, seed=0)
    assert coverage_p_value(alpha, coverage, NUM_SIMULATIONS) < 1e-3
    np.testing.assert_array_equal(fixed_parameters(samples, theta), [False, True])
    np.testing.assert_array_equal(fixed_parameters(samples, theta * 2), [False, False])


def test_tarp_of_only_fixed_parameters_is_the_diagonal():
    alpha, coverage = tarp_coverage(np.ones((500, 1)), np.ones((500, 20, 1)), seed=0)
    np.testing.assert_allclose(coverage, alpha, atol=0.06)


def test_samples_of_nan_count_as_miscalibrated():
    theta, samples = gaussian_problem()
    alpha, coverage = tarp_coverage(theta, np.full_like(samples, np.nan), seed=0)
    assert (sbc_p_values(theta, np.full_like(samples, np.nan)) < 1e-3).all()
    assert coverage_p_value(alpha, coverage, NUM_SIMULATIONS) < 1e-3


def test_binomial_band_holds_the_count_with_at_least_its_level():
    lower, upper = binomial_band(np.array([0.0, 0.5, 1.0]), num_trials=10, level=0.95)
    np.testing.assert_allclose(lower, [0.0, 0.2, 1.0])
    np.testing.assert_allclose(upper, [0.0, 0.8, 1.0])
    assert binomial_band(0.5, num_trials=100, level=0.95) == (0.4, 0.6)


def test_posterior_summary_by_hand():
    samples = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [np.inf, 5.0]], dtype=np.float32)
    summary = posterior_summary(samples, truth=np.array([2.5, 5.0]))
    np.testing.assert_allclose(summary["mean"], [2.0, 5.0])
    np.testing.assert_allclose(summary["std"], [np.sqrt(2 / 3), 0.0])
    np.testing.assert_allclose(summary["median"], [2.0, 5.0])
    for name, expected in {"q05": 1.1, "q25": 1.5, "q75": 2.5, "q95": 2.9}.items():
        np.testing.assert_allclose(summary[name], [expected, 5.0])
    np.testing.assert_allclose(summary["z_score"], [0.5 / np.sqrt(2 / 3), np.nan])
    np.testing.assert_allclose(summary["rank"], [2 / 3, 0.5])


def test_equal_samples_have_no_spread_whatever_rounding_says():
    summary = posterior_summary(np.full((1000, 1), 0.1), truth=np.array([0.2]))
    assert summary["std"] == 0 and np.isnan(summary["z_score"])


def test_posterior_summary_of_nothing_is_nan():
    summary = posterior_summary(np.full((4, 2), np.nan), truth=np.zeros(2))
    assert all(np.isnan(summary[key]).all() for key in summary.keys() - {"truth"})
    assert np.isnan(posterior_summary(np.zeros((0, 1)))["mean"]).all()


def test_band_fraction_counts_the_observed_entries_inside():
    samples = np.tile(np.arange(101.0)[:, None, None], (1, 2, 2))
    observed = np.array([[6.0, 4.0], [96.0, 95.0]])
    assert band_fraction(samples, observed, 0.9) == 0.5
    assert np.isnan(band_fraction(np.full((3, 2, 2), np.nan), observed, 0.9))
