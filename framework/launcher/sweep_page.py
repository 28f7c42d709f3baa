"""The page of a sweep: its table and the parallel-coordinates picture, in one HTML file that needs no other."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import jinja2
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from framework.files import replace_file
from framework.inference.style import MUTED, plain, styled
from framework.launcher.row import Row

_MAX_TICKS = 12


def write_page(path: Path, title: str, rows: Sequence[Row], keys: Sequence[str]) -> Path:
    """Write the page; `keys` are those that differ between the runs, and the rows are in order of their loss."""
    finished = [row for row in rows if row.state == "finished" and math.isfinite(row.best_loss)]
    picture = None
    if finished and keys:
        figure = parallel_figure([[row.values.get(k, "") for k in keys] for row in finished],
                                 keys, [row.best_loss for row in finished])  # fmt: skip
        buffer = BytesIO()
        figure.savefig(buffer, format="svg")
        picture = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("sweep.html.jinja").render(
        title=title,
        rows=rows,
        keys=keys,
        by_node=any(row.by_node for row in rows),
        picture=picture,
        best=finished[0] if finished else None,
    )
    replace_file(path, page)
    return path


@styled
def parallel_figure(values: Sequence[Sequence[str]], keys: Sequence[str], losses: Sequence[float]) -> Figure:
    """Return the picture; `values` holds one row of texts, in the order of `keys`, for each run.

    An axis is linear in numbers where all of its values are numbers, and lists the words otherwise.
    Dark lines are runs with a low loss.
    """
    columns = [_axis([row[i] for row in values]) for i in range(len(keys))]
    columns.append(_scaled(np.asarray(losses, dtype=float)))
    heights = np.stack([height for height, _ in columns], axis=1)  # (num_runs, num_axes), from 0 to 1
    figure = Figure(figsize=(max(5.0, 1.6 * len(columns)), 4.0), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(losses)[::-1]  # the best last, on top
    shades = colormaps["viridis"](np.linspace(0.9, 0.0, len(order)))
    for shade, run in zip(shades, order, strict=True):
        axes.plot(range(len(columns)), heights[run], color=shade, alpha=0.85)
    for place, (_, ticks) in enumerate(columns):
        axes.axvline(place, color="#333333", linewidth=0.7)
        for height, label in ticks:
            axes.text(place - 0.02, height, plain(label), ha="right", va="center", fontsize=8, color=MUTED)
    axes.set(xlim=(-0.4, len(columns) - 0.9), ylim=(-0.05, 1.05), yticks=[])
    axes.set_xticks(range(len(columns)), [plain(key) for key in [*keys, "validation loss"]])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _axis(texts: Sequence[str]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return the height of each value and the labels of the axis."""
    try:
        return _scaled(np.array([float(text) for text in texts]))
    except ValueError:
        words = sorted(set(texts))
        height = {word: (i + 0.5) / len(words) for i, word in enumerate(words)}
        return np.array([height[text] for text in texts]), [(h, word) for word, h in height.items()][:_MAX_TICKS]


def _scaled(numbers: np.ndarray) -> tuple[np.ndarray, list[tuple[float, str]]]:
    low, high = numbers.min(), numbers.max()
    heights = (numbers - low) / (high - low) if high > low else np.full(len(numbers), 0.5)
    distinct = sorted(set(zip(heights.tolist(), numbers.tolist(), strict=True)))
    if len(distinct) > _MAX_TICKS:
        distinct = [distinct[i] for i in np.linspace(0, len(distinct) - 1, 5).round().astype(int)]
    return heights, [(height, f"{number:.4g}") for height, number in distinct]
