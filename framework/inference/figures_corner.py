"""The corner plot of one posterior, with the `corner` package."""

import math
import textwrap
from collections.abc import Sequence

import corner
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from framework.inference.diagnostics import finite_rows, fixed_parameters
from framework.inference.figures import message_figure
from framework.inference.style import MODEL, MUTED, TRUTH, fitted, plain, styled

MAX_PARAMETERS = 10
MIN_SAMPLES = 20
MAX_INTERVALS = 5  # there is no room for more of them above the panels
LABEL_POINTS = 9


@styled
def corner_figure(samples: np.ndarray, truth: np.ndarray | None, names: Sequence[str], title: str) -> Figure:
    """Plot the one- and two-dimensional marginals of samples (num_samples, d), with true values (d,) if known.

    Fixed parameters are listed instead of drawn; at most the first `MAX_PARAMETERS` others are drawn.
    """
    samples = finite_rows(samples)
    if len(samples) < MIN_SAMPLES:
        return message_figure(title, f"{len(samples)} finite samples are too few for a corner plot.")
    fixed = fixed_parameters(samples)
    notes = [f"{names[i]} is fixed at {samples[0, i]:.4g}" for i in np.flatnonzero(fixed)[:MAX_PARAMETERS]]
    varying = np.flatnonzero(~fixed)
    shown = varying[:MAX_PARAMETERS]
    if len(shown) == 0:
        return message_figure(title, ", ".join(notes))
    if len(shown) < len(varying):
        notes.append(f"the first {len(shown)} of {len(varying)} parameters")
    true_values = np.full(samples.shape[1], np.nan) if truth is None else np.asarray(truth, dtype=np.float64)
    columns: list[np.ndarray] = []
    values: list[float] = []
    ranges: list[tuple[float, float]] = []
    labels: list[str] = []
    for i in shown:
        low, high = _frame(samples[:, i].astype(np.float64), true_values[i])
        if true_values[i] < low or true_values[i] > high:
            notes.append(f"the true {names[i]}, {true_values[i]:.4g}, is outside")
        unit, suffix = _unit(low, high)
        columns.append(samples[:, i].astype(np.float64) / unit)
        values.append(true_values[i] / unit)
        ranges.append((low / unit, high / unit))
        room = (_width(len(shown)) - 1.0) / len(shown) - (0.6 if suffix else 0.0)
        labels.append(fitted(names[i], room, LABEL_POINTS) + suffix)
    figure = _draw(np.stack(columns, axis=1), ranges, labels)
    _mark(figure, columns, values)
    _arrange(figure)
    _explain(figure, plain(title), [plain(note) for note in notes], has_truth=bool(np.isfinite(values).any()))
    return figure


def _frame(samples: np.ndarray, truth: float) -> tuple[float, float]:
    """Return the range to draw, which contains nearly all samples, and the true value if it is near them."""
    low, high = np.quantile(samples, [0.001, 0.999])
    if high <= low:
        low, high = samples.min(), samples.max()
    reach, margin = 0.7 * (high - low), 0.05 * (high - low)
    if low - reach <= truth <= high + reach:
        low, high = min(low, truth), max(high, truth)
    return float(low - margin), float(high + margin)


def _unit(low: float, high: float) -> tuple[float, str]:
    """Return a power of ten by which to divide very large or small values, and its suffix for the axis label."""
    exponent = math.floor(math.log10(max(abs(low), abs(high))))
    return (1.0, "") if -2 <= exponent <= 3 else (10.0**exponent, f" / 1e{exponent}")


def _width(num_panels: int) -> float:
    return {1: 5.2, 2: 5.4, 3: 6.6, 4: 7.8, 5: 8.8}.get(num_panels, 1.2 * num_panels + 1.4)


def _draw(samples: np.ndarray, ranges: Sequence[tuple[float, float]], labels: Sequence[str]) -> Figure:
    width = _width(len(labels))
    figure = Figure(figsize=(width, 3.8 if len(labels) == 1 else width))
    corner.corner(
        samples,
        bins=int(np.clip(len(samples) ** 0.42, 12, 50)),
        range=ranges,
        labels=labels,
        color=MODEL,
        levels=(0.5, 0.9),
        smooth=1.0,
        plot_density=False,
        fill_contours=True,
        quiet=True,
        max_n_ticks=4,
        data_kwargs={"alpha": 0.15, "ms": 1.5},
        contour_kwargs={"linewidths": 0.9},
        hist_kwargs={"linewidth": 1.2, "histtype": "stepfilled", "facecolor": "#cce3f0", "edgecolor": MODEL},
        label_kwargs={"fontsize": LABEL_POINTS},
        fig=figure,
    )
    return figure


def _panels(figure: Figure) -> np.ndarray:
    return np.array(figure.axes).reshape(math.isqrt(len(figure.axes)), -1)


def _mark(figure: Figure, columns: Sequence[np.ndarray], truth: Sequence[float]) -> None:
    """Add the true values and, above each column, the median with the central 90 % interval."""
    panels = _panels(figure)
    for row, values in enumerate(columns):
        for column in range(row + 1):
            panels[row, column].axvline(truth[column], color=TRUTH, linewidth=1.1)
            if column < row:
                panels[row, column].axhline(truth[row], color=TRUTH, linewidth=1.1)
                panels[row, column].plot(truth[column], truth[row], "s", color=TRUTH, markersize=4)
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        decimals = max(0, 2 - math.floor(math.log10(high - low))) if high > low else 2
        if len(columns) <= MAX_INTERVALS:
            interval = f"{median:z.{decimals}f} [{low:z.{decimals}f}, {high:z.{decimals}f}]"
            panels[row, row].set_title(interval, fontsize=8)


def _arrange(figure: Figure) -> None:
    """Place margins, tick labels and axis labels at fixed distances in inches for any number of panels."""
    width, height = figure.get_size_inches()
    panels = _panels(figure)
    figure.subplots_adjust(left=0.85 / width, right=1 - 0.15 / width, bottom=0.8 / height, top=1 - 0.65 / height)
    box = panels[0, 0].get_position()
    rotated = len(panels) > 3
    for axes in panels[-1]:
        axes.xaxis.set_label_coords(0.5, -(0.55 if rotated else 0.4) / (box.height * height))
    for axes in panels[1:, 0]:
        axes.yaxis.set_label_coords(-(0.6 if rotated else 0.5) / (box.width * width), 0.5)
    for axes in () if rotated else figure.axes:
        axes.tick_params(labelrotation=0)


def _explain(figure: Figure, title: str, notes: Sequence[str], has_truth: bool) -> None:
    """Add the title, and legend and notes in the empty upper triangle, if there is one."""
    figure.suptitle(title, y=1 - 0.12 / figure.get_figheight(), va="top")
    panels = _panels(figure)
    single = len(panels) == 1
    handles = [Line2D([], [], color=MODEL, label="posterior" if single else "posterior: 50 %, 90 %")]
    if has_truth:
        handles.append(Line2D([], [], color=TRUTH, marker="" if single else "s", label="true value"))
    box = panels[0, -1].get_position()
    legend = figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(box.x1, box.y1), borderaxespad=0.2)
    legend.set_title("\n".join(textwrap.fill(note, 34) for note in notes), prop=FontProperties(size=8))
    legend.get_title().set_color(MUTED)
