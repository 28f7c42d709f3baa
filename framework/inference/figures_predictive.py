"""Figures that compare posterior predictions with the observation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from framework.graph.layout import layout_of
from framework.inference.diagnostics import finite_rows
from framework.inference.figures import message_figure
from framework.inference.style import MODEL, TRUTH, fitted, plain, styled

MAX_POINTS = 2000
MAX_PIXELS = 256  # along a side
MAX_TICKS = 20


@styled
def predictive_figure(
    samples: np.ndarray, observed: np.ndarray, name: str, title: str, labels: Sequence[str] = ()
) -> Figure:
    """Plot predictions (num_predictive, *event_shape) together with the observation (*event_shape).

    A single number is drawn as a histogram, two as a scatter plot, more as bands over their index. Each series has a
    panel with bands, each image a row with observation, median and spread; `layout_of` determines the layout, and to
    which parts `labels` belong.
    """
    flat, truth = finite_rows(samples.reshape(len(samples), -1)), observed.reshape(-1)
    if len(flat) == 0:
        return message_figure(title, "No prediction is finite.")
    layout, parts = layout_of(observed.shape)
    if layout == "images":
        figure = _images(flat, truth, parts, labels or _numbered(name, len(parts), "channel"))
    elif layout == "series":
        figure = _bands(flat, truth, parts, labels or _numbered(name, len(parts), "series"), "index")
    elif truth.size > 2:
        index = "index" if layout == "numbers" else f"flat index into shape {observed.shape}"
        figure = _bands(flat, truth, np.arange(truth.size)[None], [name], index)
        if 0 < len(labels) <= MAX_TICKS:
            _name_ticks(figure.axes[0], labels)
    elif truth.size == 2:
        figure = _scatter(flat, truth, labels or [f"{name}[0]", f"{name}[1]"])
    else:
        figure = _histogram(flat, truth, labels[0] if labels else name)
    figure.suptitle(plain(title))
    return figure


def _numbered(name: str, count: int, word: str) -> list[str]:
    return [name] if count == 1 else [f"{name}, {word} {number}" for number in range(count)]


def _bands(samples: np.ndarray, observed: np.ndarray, parts: np.ndarray, names: Sequence[str], index: str) -> Figure:
    """Draw the series, whose flat indices are `parts` (num_series, length), one below the other."""
    figure = Figure(figsize=(7.5, 1.3 + 2.2 * len(parts)), layout="constrained")
    panels = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, columns, name in zip(panels, parts, names, strict=True):
        _draw_bands(axes, samples[:, columns], observed[columns])
        axes.set_ylabel(fitted(name, 2.0))
    panels[-1].set_xlabel(index)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


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


def _name_ticks(axes: Axes, labels: Sequence[str]) -> None:
    """Label the ticks with the numbers' names instead of their indices."""
    fits = len(labels) * max(map(len, labels)) < 80  # the axis is about 6.5 inches long
    angle: dict[str, Any] = {} if fits else {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(labels)), [fitted(label, 1.8) for label in labels], **angle)
    axes.set_xlabel("")


def _images(samples: np.ndarray, observed: np.ndarray, parts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw the images, whose flat indices are `parts` (channels, height, width), one row of panels per image."""
    step = math.ceil(max(parts.shape[1:]) / MAX_PIXELS)
    parts = parts[:, ::step, ::step]
    num_rows, height, width = parts.shape
    is_long = max(height, width) > 3 * min(height, width)  # stretch elongated images, such as spectrograms
    panel_height = 2.4 if is_long else min(max(2.5 * height / width, 1.4), 5.0)
    figure = Figure(figsize=(9.0, 0.5 + (panel_height + 0.4) * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, 3, squeeze=False, sharex=True, sharey=True)
    extent = (-0.5, step * width - 0.5, step * height - 0.5, -0.5)  # ticks refer to the original pixels
    for row, (pixels, name) in enumerate(zip(parts, names, strict=True)):
        q05, median, q95 = np.quantile(samples[:, pixels], [0.05, 0.5, 0.95], axis=0)
        truth = observed[pixels]
        shared = Normalize(min(truth.min(), median.min()), max(truth.max(), median.max()))
        drawn = [
            ("observed", truth, shared),
            ("median", median, shared),
            ("width of the 90 % interval", q95 - q05, None),
        ]
        for panel, (heading, values, norm) in zip(panels[row], drawn, strict=True):
            image = panel.imshow(values, norm=norm, interpolation="nearest", extent=extent)
            panel.set(title="" if row else heading, aspect="auto" if is_long else "equal")
            if norm is None or heading == "median":
                figure.colorbar(image, cax=panel.inset_axes((1.04, 0.0, 0.05, 1.0)))
        panels[row, 0].set_ylabel(fitted(name, panel_height))
    for axis in (panels[0, 0].xaxis, panels[0, 0].yaxis):  # shared by all panels
        axis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def _histogram(samples: np.ndarray, observed: np.ndarray, name: str) -> Figure:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.hist(samples[:, 0], bins=40, color=MODEL, alpha=0.55, label="predictions")
    axes.axvline(observed[0], color=TRUTH, label="observed")
    axes.set(xlabel=fitted(name, 4.5), ylabel="number of predictions")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _scatter(samples: np.ndarray, observed: np.ndarray, names: Sequence[str]) -> Figure:
    figure = Figure(figsize=(4.8, 4.8), layout="constrained")
    axes, samples = figure.subplots(), samples[:MAX_POINTS]
    axes.plot(*samples.T, "o", color=MODEL, alpha=0.35, markersize=3, markeredgewidth=0, label="predictions")
    axes.plot(*observed, "P", color=TRUTH, markersize=10, markeredgecolor="white", label="observed")
    axes.set(xlabel=fitted(names[0], 4.0), ylabel=fitted(names[1], 4.0))
    axes.grid(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
