"""Figures of training and of posterior predictions. Arrays in, `Figure` out.

What cannot be drawn gives a figure that says so: a report is worth more than an exception.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from framework.inference.diagnostics import finite_rows
from framework.inference.style import MODEL, MUTED, SECOND, TRUTH, plain, styled

MAX_POINTS = 2000


@styled
def message_figure(title: str, message: str) -> Figure:
    """Return a small figure that says why there is nothing to see."""
    figure = Figure(figsize=(6.5, 1.2))
    figure.text(0.5, 0.75, plain(title), ha="center", va="center", fontsize=10)
    figure.text(0.5, 0.35, plain(message), ha="center", va="center", color=MUTED)
    return figure


@styled
def loss_figure(history: Sequence[Mapping[str, Any]], best_epoch: int, title: str) -> Figure:
    """Return the training and validation loss over the epochs, the learning rate below; see `NodeReport`."""
    if not history:
        return message_figure(title, "No epoch was completed.")
    epoch, train, val, rate = (_column(history, key) for key in ("epoch", "train_loss", "val_loss", "lr"))
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    marker = "." if len(history) <= 30 else None
    top.plot(epoch, train, color=SECOND, marker=marker, label="training")
    top.plot(epoch, val, color=MODEL, marker=marker, label="validation")
    best = val[epoch == best_epoch]
    if np.isfinite(best).any():
        label = f"best: {best[-1]:.4g} at epoch {best_epoch}"
        top.axvline(best_epoch, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        top.plot(best_epoch, best[-1], "o", color=MODEL, markeredgecolor="white", markersize=7, label=label)
    _cut_spikes(top, np.concatenate([train, val]))
    top.set(ylabel="loss", title=plain(title))
    top.legend(loc="upper right", ncols=3)
    bottom.plot(epoch, rate, color=MUTED, marker=marker)
    positive = rate[rate > 0]
    if positive.size and positive.max() > 5 * positive.min():
        bottom.set_yscale("log")
    bottom.set(ylabel="learning\nrate", xlabel="epoch", xlim=(epoch.min() - 0.5, epoch.max() + 0.5))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for axes in (top, bottom):
        axes.grid(True)
    figure.align_ylabels()
    return figure


@styled
def predictive_figure(samples: np.ndarray, observed: np.ndarray, name: str, title: str) -> Figure:
    """Return predictions (num_predictive, *event_shape) with the observation (*event_shape) on top.

    A scalar gives a histogram, two numbers a scatter plot, anything longer bands over its flat index; a short
    stack of series, such as (time, species), one panel for each series.
    """
    flat, truth = finite_rows(samples.reshape(len(samples), -1)), observed.reshape(-1)
    if len(flat) == 0:
        return message_figure(title, "No prediction is finite.")
    if truth.size <= 2:
        figure = Figure(figsize=(5.2, 3.6) if truth.size == 1 else (4.8, 4.6), layout="constrained")
        draw = _draw_histogram if truth.size == 1 else _draw_scatter
        draw(figure.subplots(), flat, truth, plain(name))
    else:
        series, index_label = _series(observed.shape)
        figure = Figure(figsize=(7.5, 1.3 + 2.2 * len(series)), layout="constrained")
        panels = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, columns) in enumerate(zip(panels, series, strict=True)):
            _draw_bands(axes, flat[:, columns], truth[columns])
            axes.set_ylabel(plain(name) if len(series) == 1 else f"{plain(name)}, series {number}")
        panels[-1].set_xlabel(index_label)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(plain(title))
    return figure


def _column(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Return one key of the history; what is missing or not finite is NaN, which is not drawn."""
    values = np.array([math.nan if row[key] is None else row[key] for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _cut_spikes(axes: Axes, losses: np.ndarray) -> None:
    """Keep a few huge losses, as of the first epochs, from flattening the rest of the curves."""
    losses = losses[np.isfinite(losses)]
    if len(losses) < 20:
        return
    low, high = losses.min(), np.quantile(losses, 0.95)
    if losses.max() - high > 3 * (high - low) > 0:
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
        axes.text(0.01, 0.02, f"not shown: losses up to {losses.max():.3g}", transform=axes.transAxes, color=MUTED)


def _series(event_shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Return the flat indices of each series (num_series, length) and the label of the axis along them."""
    indices = np.arange(math.prod(event_shape)).reshape(event_shape)
    if len(event_shape) == 2 and min(event_shape) <= 4 and max(event_shape) >= 8:
        return (indices if event_shape[0] <= event_shape[1] else indices.T), "index"
    label = "index" if len(event_shape) == 1 else f"flat index into shape {event_shape}"
    return indices.reshape(1, -1), label


def _draw_bands(axes: Axes, samples: np.ndarray, observed: np.ndarray) -> None:
    index = np.arange(0, observed.size, math.ceil(observed.size / MAX_POINTS))
    q05, q25, median, q75, q95 = np.quantile(samples[:, index], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axes.fill_between(index, q05, q95, color="#cce3f0", linewidth=0, label="90 % of predictions")
    axes.fill_between(index, q25, q75, color="#7fb8d8", linewidth=0, label="50 % of predictions")
    axes.plot(index, median, color=MODEL, label="median")
    style: dict[str, Any] = {"linewidth": 0.9} if index.size > 60 else {"linestyle": "none", "marker": "o"}
    axes.plot(index, observed[index], color=TRUTH, markersize=4, markeredgecolor="white", label="observed", **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(True)


def _draw_histogram(axes: Axes, samples: np.ndarray, observed: np.ndarray, name: str) -> None:
    axes.hist(samples[:, 0], bins=40, color=MODEL, alpha=0.55, label="predictions")
    axes.axvline(observed[0], color=TRUTH, label="observed")
    axes.set(xlabel=name, ylabel="number of predictions")
    axes.legend()


def _draw_scatter(axes: Axes, samples: np.ndarray, observed: np.ndarray, name: str) -> None:
    samples = samples[:MAX_POINTS]
    axes.plot(*samples.T, "o", color=MODEL, alpha=0.35, markersize=3, markeredgewidth=0, label="predictions")
    axes.plot(*observed, "P", color=TRUTH, markersize=10, markeredgecolor="white", label="observed")
    axes.set(xlabel=f"{name}[0]", ylabel=f"{name}[1]")
    axes.grid(True)
    axes.legend()
