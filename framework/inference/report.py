"""The report of a run: figures as PNG files, numbers as `summary.json`, and both combined in one `report.html`."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from framework.files import make_own_directory, remove_unfinished, replace_file
from framework.inference.figures import loss_figure
from framework.inference.figures_calibration import recovery_figure, sbc_figure, tarp_figure
from framework.inference.figures_corner import MAX_INTERVALS, corner_figure
from framework.inference.figures_predictive import predictive_figure
from framework.inference.summary import (
    Calibration,
    NodeReport,
    PredictiveReport,
    calibrate,
    summarise_node,
    summarise_predictive,
)

__all__ = ["NodeReport", "PredictiveReport", "write_report"]

MAX_OBSERVATIONS = 5
FIGURE_DPI = 130


def write_report(
    report_dir: Path,
    *,
    title: str,
    run_info: Mapping[str, str],
    nodes: Sequence[NodeReport],
    predictive: Sequence[PredictiveReport] = (),
    seed: int = 0,
) -> Path:
    """Write figures, `summary.json` and `report.html` to `report_dir` durably; return the path of the HTML.

    The HTML needs no other files and no network. `seed` seeds the random choices of the calibration tests.
    """
    make_own_directory(report_dir)
    remove_unfinished(report_dir)
    sections, numbers = [], {}
    for node in nodes:
        calibration = calibrate(node, seed)
        numbers[node.name] = summarise_node(node, calibration)
        sections.append((node, numbers[node.name], _node_figures(report_dir, node, calibration)))
    predictions = [(entry, summarise_predictive(entry), _predictive_figures(report_dir, entry)) for entry in predictive]
    summary = {
        "title": title,
        "facts": run_info,  # the key is part of the file format
        "nodes": numbers,
        "predictive": {entry.name: rows for entry, rows, _ in predictions},
    }
    replace_file(report_dir / "summary.json", json.dumps(_without_nan(summary), indent=2, allow_nan=False).encode())
    page = _template().render(title=title, run_info=run_info, sections=sections, predictions=predictions)
    replace_file(report_dir / "report.html", page.encode())
    return report_dir / "report.html"


@dataclass(frozen=True)
class _Image:
    """A figure on disk and in the form that the HTML embeds."""

    file_name: str
    source: str
    width: int
    height: int


def _node_figures(report_dir: Path, node: NodeReport, calibration: Calibration | None) -> dict[str, Any]:
    """Draw one node's figures: loss, corners (one per observation) and, if it has been tested, calibration."""
    name, names = node.name, node.parameter_names
    truth = [None] * len(node.samples) if node.truth is None else node.truth
    images: dict[str, Any] = {
        "loss": _save(
            report_dir, f"{name}_loss", loss_figure(node.history, node.best_epoch, f"{name}: training", node.changes)
        ),
        "corners": [
            _save(report_dir, f"{name}_corner_{i}", corner_figure(samples, values, names, f"{name} | observation {i}"))
            for i, (samples, values) in enumerate(zip(node.samples[:MAX_OBSERVATIONS], truth, strict=False))
        ],
    }
    if calibration is None:
        return images
    assert node.calibration_theta is not None and node.calibration_samples is not None
    sbc = sbc_figure(calibration.ranks, calibration.num_samples, calibration.p_values, names, f"{name}: SBC ranks")
    tarp = tarp_figure(
        calibration.alpha,
        calibration.expected_coverage,
        calibration.num_simulations,
        calibration.tarp_p_value,
        f"{name}: TARP coverage",
    )
    recovery = recovery_figure(node.calibration_theta, node.calibration_samples, names, f"{name}: recovery")
    figures = {"sbc": sbc, "tarp": tarp, "recovery": recovery}
    return images | {key: _save(report_dir, f"{name}_{key}", figure) for key, figure in figures.items()}


def _predictive_figures(report_dir: Path, predictive: PredictiveReport) -> list[_Image]:
    images = []
    for i, (samples, observed) in enumerate(zip(predictive.samples, predictive.observed, strict=True)):
        if i < MAX_OBSERVATIONS:
            title = f"{predictive.name}: posterior predictive, observation {i}"
            figure = predictive_figure(samples, observed, predictive.name, title, predictive.labels)
            images.append(_save(report_dir, f"{predictive.name}_predictive_{i}", figure))
    return images


def _save(report_dir: Path, name: str, figure: Figure) -> _Image:
    """Write the figure as PNG; characters that are unsafe in a file name are replaced by underscores."""
    file_name = re.sub(r"[^\w-]+", "_", name) + ".png"
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=FIGURE_DPI, facecolor="white")
    replace_file(report_dir / file_name, buffer.getvalue())
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    # CSS has 96 pixels per inch; with sizes in inches, text has the same size in all figures.
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return _Image(file_name, source, width, height)


def _without_nan(value: Any) -> Any:
    """Return the value with NaN and inf replaced by None, because JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "gain": _gain}
    environment.globals |= {"max_observations": MAX_OBSERVATIONS, "max_intervals": MAX_INTERVALS}
    return environment.get_template("report.html.jinja")


def _number(value: float | None, digits: int = 4) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}g}".replace("-", "−")


def _gain(numbers: Mapping[str, Any]) -> str:
    """Format the information gain with two significant digits of its standard error: 7.56 ± 0.15 nats."""
    nats, error = numbers["information_gain"], numbers["information_gain_standard_error"]
    if nats is None or not error:
        return "–" if nats is None else f"{nats:.2f} nats".replace("-", "−")
    digits = min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{nats:.{digits}f} ± {error:.{digits}f} nats".replace("-", "−")
