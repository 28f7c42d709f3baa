"""The page of a sweep: its table and the parallel-coordinates picture, in one HTML file that needs no other."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import jinja2

from framework.files import replace_file
from framework.launcher.parallel import parallel_figure
from framework.launcher.row import Row


def write_report(path: Path, title: str, rows: Sequence[Row], keys: Sequence[str]) -> Path:
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
    by_node, best = any(row.by_node for row in rows), finished[0] if finished else None
    page = environment.get_template("sweep.html.jinja").render(
        title=title, rows=rows, keys=keys, by_node=by_node, picture=picture, best=best
    )
    replace_file(path, page)
    return path
