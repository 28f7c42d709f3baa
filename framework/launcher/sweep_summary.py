"""The results of a sweep: the table, the best run, `sweep.csv` and `sweep.html`."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from framework.config.duration import format_duration
from framework.files import replace_file
from framework.launcher.row import Row
from framework.rundir.run_status import RunState

log = logging.getLogger(__name__)


def write_summary(directory: Path, rows: Sequence[Row]) -> None:
    """Print the table and the best run; write the CSV and the HTML."""
    from framework.launcher.sweep_page import write_page  # matplotlib takes a second to load

    rows = sorted(rows, key=lambda row: (math.isnan(row.best_loss), row.best_loss, row.name))
    keys = varied_keys(rows)
    Console().print(_table(rows, keys))
    if best := best_run(rows):
        log.info("best run: %s (validation loss %.4f)", best.run_dir, best.best_loss)
    _write_csv(directory / "sweep.csv", rows)
    log.info("summary:  %s", write_page(directory / "sweep.html", directory.name, rows, keys))


def best_run(rows: Sequence[Row]) -> Row | None:
    """Return the finished run with the lowest loss."""
    finished = [row for row in rows if row.state is RunState.FINISHED and not math.isnan(row.best_loss)]
    return min(finished, key=lambda row: row.best_loss, default=None)


def varied_keys(rows: Sequence[Row]) -> list[str]:
    """Return the keys whose values differ between the runs."""
    keys = sorted({key for row in rows for key in row.values})
    return [key for key in keys if len({row.values.get(key) for row in rows}) > 1]


def _table(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    table = Table(title=f"{len(rows)} runs", title_justify="left")
    by_node = ["by node"] if any(row.by_node for row in rows) else []
    for name in [*(keys or ["run"]), "state", "epochs", "best loss", *by_node, "time"]:
        table.add_column(name, justify="right" if name in ("epochs", "best loss", "time") else "left")
    for row in rows:
        loss = "" if math.isnan(row.best_loss) else f"{row.best_loss:.4f}"
        cells = [Text(row.values.get(key, "")) for key in keys] or [Text(row.name)]  # not markup: values have brackets
        losses = [loss, row.by_node] if by_node else [loss]
        table.add_row(*cells, row.state, str(row.epoch), *losses, format_duration(row.seconds))
    return table


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    keys = sorted({key for row in rows for key in row.values})
    nodes = list(dict.fromkeys(node for row in rows if row.by_node for node in row.best_losses))
    losses = ["best_loss", *(f"best_loss.{node}" for node in nodes)]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["run", *keys, "state", "reason", "epochs", *losses, "seconds", "run_dir"])
    for row in rows:
        values = [row.values.get(key, "") for key in keys]
        numbers = [row.epoch, row.best_loss, *(row.best_losses.get(node) for node in nodes), round(row.seconds, 1)]
        writer.writerow([row.name, *values, row.state, row.reason, *numbers, row.run_dir])
    replace_file(path, file.getvalue())
