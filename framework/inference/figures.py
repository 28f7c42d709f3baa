"""The training figure, made from arrays.

If there is nothing to draw, the figure shows a message instead, so that the report is complete.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from framework.inference.diagnostics import best_loss
from framework.inference.style import MODEL, MUTED, SECOND, TRUTH, plain, styled


@styled
def message_figure(title: str, message: str) -> Figure:
    """Return a small figure with a message that explains why nothing is drawn."""
    figure = Figure(figsize=(6.5, 1.2))
    figure.text(0.5, 0.75, plain(title), ha="center", va="center", fontsize=10)
    figure.text(0.5, 0.35, plain(message), ha="center", va="center", color=MUTED)
    return figure


@styled
def loss_figure(
    history: Sequence[Mapping[str, Any]], best_epoch: int, title: str, changes: Sequence[int] = ()
) -> Figure:
    """Plot training and validation loss over the epochs, with the learning rate below; see `NodeReport`."""
    if not history:
        return message_figure(title, "No epoch was completed.")
    epoch, train, val, rate = (_column(history, key) for key in ("epoch", "train_loss", "val_loss", "lr"))
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    marker = "." if len(history) <= 30 else None
    top.plot(epoch, train, color=SECOND, marker=marker, label="training")
    top.plot(epoch, val, color=MODEL, marker=marker, label="validation")
    for number, change in enumerate(changes):
        label = None if number else "simulations changed"
        top.axvline(change + 0.5, color=TRUTH, linewidth=0.9, linestyle=":", zorder=0, label=label)
    if (best := best_loss(history, best_epoch)) is not None:
        label = f"best: {best:.4g} at epoch {best_epoch}"
        top.axvline(best_epoch, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        top.plot(best_epoch, best, "o", color=MODEL, markeredgecolor="white", markersize=7, label=label)
    _cut_spikes(top, np.concatenate([train, val]))
    top.set_ylabel("loss")
    figure.suptitle(plain(title))
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    bottom.plot(epoch, rate, color=MUTED, marker=marker)
    _scale_rate(bottom, rate[np.isfinite(rate)])
    bottom.set(ylabel="learning\nrate", xlabel="epoch", xlim=(epoch.min() - 0.5, epoch.max() + 0.5))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    for axes in (top, bottom):
        axes.grid(True)
    figure.align_ylabels()
    return figure


def _column(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Return one key of the history as an array; missing and infinite values become NaN, which is not drawn."""
    values = np.array([math.nan if row[key] is None else row[key] for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _cut_spikes(axes: Axes, losses: np.ndarray) -> None:
    """Limit the axis so that a few very large losses, as in the first epochs, do not flatten the curves."""
    losses = losses[np.isfinite(losses)]
    if len(losses) < 20:
        return
    low, high = losses.min(), np.quantile(losses, 0.95)
    if losses.max() - high > 3 * (high - low) > 0:
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        axes.text(0.01, 0.02, f"not shown: losses up to {losses.max():.3g}", transform=axes.transAxes, color=MUTED)


def _scale_rate(axes: Axes, rate: np.ndarray) -> None:
    """Label only the lowest and highest learning rate, to save space; use a logarithmic axis for a wide range."""
    positive = rate[rate > 0]
    is_log = positive.size > 0 and positive.max() > 5 * positive.min()
    low, high = _ends(positive if is_log else rate)
    if is_log:
        axes.set(yscale="log", ylim=(low / 1.3, high * 1.3))
    else:
        margin = max(0.1 * (high - low), 0.1 * abs(high)) or 1.0  # a constant rate is drawn in the middle
        axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(FixedLocator([low, high] if high - low > 0.1 * abs(high) else [high]))
    axes.yaxis.set_minor_locator(LogLocator() if is_log else NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _ends(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
