"""Diagnostics of a posterior, computed from arrays.

A posterior is calibrated if, over pairs (theta, x) drawn from the prior and the simulator, theta is distributed like
another draw from q(theta | x). SBC checks this per parameter and TARP for all parameters jointly. A posterior that
ignores x and returns the prior passes both, so read them together with the information gain.

Arguments may be NumPy arrays or CPU tensors. Ties, as with discrete or fixed parameters, are broken at random.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from framework.rng import seed_sequence


def sbc_ranks(theta: ArrayLike, samples: ArrayLike, seed: int = 0) -> np.ndarray:
    """Return the rank of each true parameter among its posterior samples, uniform on {0, ..., num_samples}.

    `theta` is (L, d), `samples` (L, num_samples, d), the result (L, d), integer. Talts et al. 2018,
    arXiv:1804.06788, Algorithm 1; ties as in Modrák et al. 2023, arXiv:2211.02383.
    """
    theta, samples = _paired(theta, samples)
    below = (samples < theta[:, None]).sum(axis=1)
    ties = (samples == theta[:, None]).sum(axis=1)
    rng = np.random.default_rng(seed_sequence(seed, "diagnostics", "sbc"))
    return below + rng.integers(ties + 1)


def rank_p_values(ranks: ArrayLike, num_samples: int) -> np.ndarray:
    """Test the ranks (L, d) of each parameter for uniformity on {0, ..., num_samples}; return d p-values.

    Kolmogorov-Smirnov against the discrete uniform distribution, so slightly conservative for few samples.
    """
    ranks = np.asarray(ranks)
    expected = np.arange(1, num_samples + 2) / (num_samples + 1)
    counts = np.stack([np.bincount(column, minlength=num_samples + 1) for column in ranks.T])
    distance = np.abs(counts.cumsum(axis=1) / len(ranks) - expected).max(axis=1)
    return stats.kstwo.sf(distance, len(ranks))


def tarp_coverage(
    theta: ArrayLike, samples: ArrayLike, seed: int, num_alpha: int = 101
) -> tuple[np.ndarray, np.ndarray]:
    """Return credibility levels alpha and the expected coverage at each: equal if the posterior is calibrated.

    `theta` is (L, d), `samples` (L, num_samples, d). Lemos et al. 2023, arXiv:2302.03026, Algorithm 2, with one
    reference point per simulation, uniform in the box spanned by theta. The fraction of samples closer to the
    reference than theta is spread over its step of 1 / (num_samples + 1), which makes it exactly uniform for a
    calibrated posterior. The curve of an overconfident posterior is above the diagonal for small alpha and below
    it for large alpha; for an underconfident one it is the other way round; a bias moves the curve to one side.
    """
    theta, samples = _paired(theta, samples)
    rng = np.random.default_rng(seed_sequence(seed, "diagnostics", "tarp"))
    low, span = theta.min(axis=0), np.ptp(theta, axis=0)
    scale = np.where(span > 0, span, 1.0)
    references = low + scale * rng.random(theta.shape)
    # The distances of theta and of the samples are computed by the same expression, so that equal points tie exactly.
    points = np.concatenate([theta[:, None], samples], axis=1)
    offsets = (points - references[:, None]) / scale
    distances = np.sqrt(np.einsum("lsd,lsd->ls", offsets, offsets))
    closer = (distances[:, 1:] < distances[:, :1]).sum(axis=1)
    ties = (distances[:, 1:] == distances[:, :1]).sum(axis=1)
    fraction = (closer + (ties + 1) * rng.random(len(theta))) / (samples.shape[1] + 1)
    alpha = np.linspace(0.0, 1.0, num_alpha)
    return alpha, (fraction <= alpha[:, None]).mean(axis=1)


def coverage_p_value(alpha: ArrayLike, expected_coverage: ArrayLike, num_simulations: int) -> float:
    """Kolmogorov-Smirnov test of the coverage curve against the diagonal."""
    distance = np.abs(np.asarray(expected_coverage) - np.asarray(alpha)).max()
    return float(stats.kstwo.sf(distance, num_simulations))


def binomial_band(probability: ArrayLike, num_trials: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the central interval, as fractions of `num_trials`, of a binomial count with this probability."""
    tail = (1 - level) / 2
    lower, upper = (stats.binom.ppf(q, num_trials, probability) / num_trials for q in (tail, 1 - tail))
    return np.maximum(lower, 0.0), upper


def fixed_parameters(samples: ArrayLike, theta: ArrayLike | None = None) -> np.ndarray:
    """Return a mask of the d parameters (last axis) with a single value in `samples` and `theta`, ignoring NaN."""
    values = np.asarray(samples)
    values = values.reshape(-1, values.shape[-1])
    if theta is not None:
        values = np.concatenate([values, np.asarray(theta)])
    return (values == values[:1]).all(axis=0)


def posterior_summary(samples: ArrayLike, truth: ArrayLike | None = None) -> dict[str, np.ndarray]:
    """Return mean, std and quantiles of samples (num_samples, d), and scores of the true values (d,); each (d,).

    `z_score` is (truth - mean) / std, `rank` the fraction of the samples below the truth (ties count half).
    Rows with NaN or inf are ignored; undefined values are NaN.
    """
    values = finite_rows(samples).astype(np.float64)
    if len(values) == 0:
        values = np.full((1, values.shape[1]), np.nan)
    std = np.where(np.ptp(values, axis=0) == 0, 0.0, values.std(axis=0))  # rounding gives equal values a nonzero std
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    names = ["q05", "q25", "median", "q75", "q95"]
    summary = {"mean": values.mean(axis=0), "std": std, **dict(zip(names, quantiles, strict=True))}
    if truth is not None:
        truth = np.asarray(truth, dtype=np.float64)
        z_score = (truth - summary["mean"]) / np.where(std > 0, std, np.nan)
        rank = (values < truth).mean(axis=0) + 0.5 * (values == truth).mean(axis=0)
        unknown = np.isnan(truth - summary["mean"])
        summary |= {"truth": truth, "z_score": z_score, "rank": np.where(unknown, np.nan, rank)}
    return summary


def band_fraction(samples: ArrayLike, observed: ArrayLike, level: float) -> float:
    """Return the fraction of the observed entries that lie in the central `level` band of the predictive samples.

    `samples` is (num_predictive, *event_shape), `observed` (*event_shape). NaN if no sample is finite.
    """
    observed = np.asarray(observed).reshape(-1)
    values = finite_rows(np.asarray(samples).reshape(-1, observed.size))
    if len(values) == 0:
        return float("nan")
    lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return float(((observed >= lower) & (observed <= upper)).mean())


def best_loss(history: Sequence[Mapping[str, Any]], best_epoch: int) -> float | None:
    """Return the validation loss of the best weights, or None if there are none.

    It is taken from the last epoch, because it is evaluated again whenever the simulations change.
    """
    rows = [row for row in history if row["epoch"] == best_epoch]
    if not rows:
        return None
    loss = history[-1].get("best_loss", rows[-1]["val_loss"])
    return float(loss) if loss is not None and math.isfinite(loss) else None


def finite_rows(samples: ArrayLike) -> np.ndarray:
    """Return the rows of a matrix that contain neither NaN nor inf."""
    samples = np.asarray(samples)
    return samples[np.isfinite(samples).all(axis=1)]


def _paired(theta: ArrayLike, samples: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    theta, samples = np.asarray(theta, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    assert samples.ndim == 3 and theta.shape == (samples.shape[0], samples.shape[2]), (theta.shape, samples.shape)
    return theta, samples
