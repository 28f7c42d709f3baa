"""Calibration figures: SBC ranks, TARP coverage, and recovery of the true parameters."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from framework.inference.diagnostics import binomial_band
from framework.inference.figures_corner import MAX_PARAMETERS
from framework.inference.style import MODEL, MUTED, TRUTH, fitted, plain, styled

MAX_RECOVERY_POINTS = 300


@styled
def sbc_figure(ranks: np.ndarray, num_samples: int, p_values: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Plot histograms of the ranks (L, d), as fractions of `num_samples`, with the 99 % band of uniform ranks.

    A parameter with a p-value of NaN is fixed, and its panel is left empty.
    """
    figure, panels = _panels(len(names), title)
    num_bins = int(min(np.clip(len(ranks) // 25, 4, 20), num_samples + 1))
    for axes, name, column, p_value in zip(panels, names, ranks.T, p_values, strict=False):
        heading = fitted(name, _panel_width(len(names)))
        axes.set_title(heading if np.isnan(p_value) else f"{heading}\np = {p_value:.2g}")
        axes.set(xlabel="rank / number of samples", xlim=(0, 1))
        if np.isnan(p_value):
            axes.text(0.5, 0.5, "fixed", transform=axes.transAxes, ha="center", color=MUTED)
            axes.set_yticks([])
        else:
            _draw_ranks(axes, column, num_samples, num_bins)
    for axes in panels[:: _num_columns(len(names))]:
        axes.set_ylabel("simulations")
    return figure


@styled
def tarp_figure(
    alpha: np.ndarray, expected_coverage: np.ndarray, num_simulations: int, p_value: float, title: str
) -> Figure:
    """Plot the expected coverage over the credibility level, with the 99 % band of a calibrated posterior."""
    figure = Figure(figsize=(4.8, 4.6), layout="constrained")
    axes = figure.subplots()
    lower, upper = binomial_band(alpha, num_simulations, 0.99)
    axes.fill_between(alpha, lower, upper, color=MUTED, alpha=0.2, linewidth=0, label="99 % band if calibrated")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle="--")
    axes.plot(alpha, expected_coverage, color=MODEL, linewidth=1.8, label=f"posterior   p = {p_value:.2g}")
    axes.set(xlabel="credibility level", ylabel="expected coverage", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_title(plain(title))
    axes.grid(True)
    axes.legend(loc="upper left")
    return figure


@styled
def recovery_figure(theta: np.ndarray, samples: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Plot the posterior median and 90 % interval over the true value, for simulations not trained on."""
    theta, samples = theta[:MAX_RECOVERY_POINTS], samples[:MAX_RECOVERY_POINTS]
    low, median, high = np.quantile(samples, [0.05, 0.5, 0.95], axis=1)
    figure, panels = _panels(len(names), title)
    for i, (axes, name) in enumerate(zip(panels, names, strict=False)):
        axes.vlines(theta[:, i], low[:, i], high[:, i], color=MODEL, alpha=0.25, linewidth=0.8)
        axes.plot(theta[:, i], median[:, i], "o", color=MODEL, markersize=2.5, markeredgewidth=0)
        axes.axline((float(theta[0, i]), float(theta[0, i])), slope=1, color=TRUTH, linewidth=1)
        axes.set(title=fitted(name, _panel_width(len(names))), xlabel="true value")
        axes.grid(True)
    for axes in panels[:: _num_columns(len(names))]:
        axes.set_ylabel("median and 90 % interval")
    return figure


def _num_columns(num_parameters: int) -> int:
    return {1: 1, 2: 2, 3: 3, 4: 2}.get(num_parameters, 3 if num_parameters <= 9 else 4)


def _figure_width(num_columns: int) -> float:
    return {1: 5.2, 2: 7.5}.get(num_columns, 9.0)


def _panel_width(num_parameters: int) -> float:
    """Return the maximum width of a panel's title in inches."""
    num_columns = _num_columns(num_parameters)
    return _figure_width(num_columns) / num_columns - 0.4


def _panels(num_parameters: int, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with one small panel for each of the first `MAX_PARAMETERS` parameters."""
    shown, num_columns = min(num_parameters, MAX_PARAMETERS), _num_columns(num_parameters)
    num_rows = -(-shown // num_columns)
    figure = Figure(
        figsize=(_figure_width(num_columns), 0.6 + (3.0 if num_columns == 1 else 2.5) * num_rows), layout="constrained"
    )
    note = "" if shown == num_parameters else f" (first {shown} of {num_parameters} parameters)"
    figure.suptitle(plain(title) + note)
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for spare in axes[shown:]:
        spare.set_axis_off()
    return figure, list(axes[:shown])


def _draw_ranks(axes: Axes, ranks: np.ndarray, num_samples: int, num_bins: int) -> None:
    # The number of ranks per bin may differ by one, and the band accounts for that.
    edges = np.ceil(np.arange(num_bins + 1) * (num_samples + 1) / num_bins)
    lower, upper = binomial_band(np.diff(edges) / (num_samples + 1), len(ranks), 0.99)
    counts, _ = np.histogram(ranks, bins=edges)
    position = edges / (num_samples + 1)
    axes.stairs(upper * len(ranks), position, baseline=lower * len(ranks), fill=True, color="#dddddd")
    axes.stairs(counts, position, fill=True, color="#7fb8d8")
    axes.stairs(counts, position, color=MODEL, linewidth=1)
    for edge in (lower, upper):  # drawn on top of the bars, which hide the band
        axes.stairs(edge * len(ranks), position, baseline=None, color=MUTED, linewidth=0.9, linestyle="--")
    axes.set_ylim(bottom=0)
