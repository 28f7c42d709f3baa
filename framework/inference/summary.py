"""The input of a report, and its numbers, which are the content of `summary.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.graph import parameter_names
from framework.inference import diagnostics
from framework.inference.information import InformationGain

CALIBRATION_LEVEL = 0.01


@dataclass(frozen=True)
class NodeReport:
    """The results for one inferred node; fields that are `None` or have no rows are omitted from the report."""

    name: str
    history: Sequence[Mapping[str, Any]]
    """One mapping per epoch with epoch, step, train_loss, val_loss and lr; a value may be None."""
    best_epoch: int
    """The epoch of the weights from which the samples are drawn."""
    samples: np.ndarray
    """Posterior samples, (num_observations, num_samples, dim); rows with NaN are ignored."""
    truth: np.ndarray | None = None
    """True values behind the observations, (num_observations, dim); NaN where unknown."""
    calibration_theta: np.ndarray | None = None
    """Parameters of L simulations not trained on, (L, dim)."""
    calibration_samples: np.ndarray | None = None
    """Posterior samples for each of these simulations, (L, num_samples, dim)."""
    information_gain: InformationGain | None = None
    labels: Sequence[str] = ()
    """The names of the parameters, if the user has given any."""
    changes: Sequence[int] = ()
    """The number of completed epochs at each change of the simulations."""

    @property
    def parameter_names(self) -> list[str]:
        """Return the names of the parameters in figures and tables."""
        return parameter_names(self.name, self.samples.shape[2], self.labels)


@dataclass(frozen=True)
class PredictiveReport:
    """Simulations from posterior samples, and the observations."""

    name: str
    samples: np.ndarray
    """(num_observations, num_predictive, *event_shape); rows with NaN are ignored."""
    observed: np.ndarray
    """(num_observations, *event_shape)"""
    labels: Sequence[str] = ()
    """The names of the numbers, series or channels."""


@dataclass(frozen=True)
class Calibration:
    """The results of SBC and TARP for one node, used by both figures and numbers."""

    num_simulations: int
    num_samples: int
    ranks: np.ndarray
    p_values: np.ndarray
    """One per parameter; NaN if it is fixed."""
    alpha: np.ndarray
    expected_coverage: np.ndarray
    tarp_p_value: float

    @property
    def is_suspicious(self) -> bool:
        """Return whether a test rejects calibration, with a Bonferroni correction for SBC's tests per parameter."""
        tested = self.p_values[~np.isnan(self.p_values)]
        sbc = bool(tested.size) and tested.min() * tested.size < CALIBRATION_LEVEL
        return bool(sbc or self.tarp_p_value < CALIBRATION_LEVEL)


def calibrate(node: NodeReport, seed: int) -> Calibration | None:
    """Run the calibration tests if the node has simulations for them."""
    theta, samples = node.calibration_theta, node.calibration_samples
    if theta is None or samples is None or len(theta) == 0:
        return None
    ranks = diagnostics.sbc_ranks(theta, samples, seed)
    fixed = diagnostics.fixed_parameters(samples, theta)
    p_values = np.where(fixed, np.nan, diagnostics.rank_p_values(ranks, samples.shape[1]))
    alpha, expected_coverage = diagnostics.tarp_coverage(theta, samples, seed)
    tarp_p_value = diagnostics.coverage_p_value(alpha, expected_coverage, len(theta))
    return Calibration(len(theta), samples.shape[1], ranks, p_values, alpha, expected_coverage, tarp_p_value)


def summarise_node(node: NodeReport, calibration: Calibration | None) -> dict[str, Any]:
    """Return the node's numbers: training, calibration, and a row per observation and parameter."""
    gain = node.information_gain or InformationGain()
    return {
        "num_epochs": len(node.history),
        "best_epoch": node.best_epoch,
        "best_val_loss": diagnostics.best_loss(node.history, node.best_epoch),
        "information_gain": gain.nats,
        "information_gain_standard_error": gain.standard_error,
        "information_gain_note": gain.note,
        "num_samples": node.samples.shape[1],
        "calibration": None if calibration is None else _summarise_calibration(calibration, node.parameter_names),
        "observations": [_rows(node, index) for index in range(len(node.samples))],
    }


def summarise_predictive(predictive: PredictiveReport) -> list[dict[str, Any]]:
    """Return the fraction of each observation that lies in the central bands of its predictions."""
    return [
        {
            "num_finite": int(np.isfinite(samples.reshape(len(samples), -1)).all(axis=1).sum()),
            "fraction_in_50": diagnostics.band_fraction(samples, observed, 0.5),
            "fraction_in_90": diagnostics.band_fraction(samples, observed, 0.9),
        }
        for samples, observed in zip(predictive.samples, predictive.observed, strict=True)
    ]


def _rows(node: NodeReport, index: int) -> list[dict[str, Any]]:
    truth = None if node.truth is None else node.truth[index]
    columns = diagnostics.posterior_summary(node.samples[index], truth)
    return [
        {"parameter": name, **{key: float(column[i]) for key, column in columns.items()}}
        for i, name in enumerate(node.parameter_names)
    ]


def _summarise_calibration(calibration: Calibration, names: Sequence[str]) -> dict[str, Any]:
    return {
        "num_simulations": calibration.num_simulations,
        "num_samples": calibration.num_samples,
        "is_suspicious": calibration.is_suspicious,
        "sbc_p_values": dict(zip(names, calibration.p_values.tolist(), strict=True)),
        "tarp_p_value": calibration.tarp_p_value,
        "tarp_alpha": calibration.alpha.tolist(),
        "tarp_expected_coverage": calibration.expected_coverage.tolist(),
    }
