"""Command line: show the status of all runs below some directories."""

import json
import math
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from framework.cli import exit_codes
from framework.config.duration import format_duration
from framework.errors import ConfigError
from framework.rundir.metrics import losses_by_node
from framework.rundir.run_status import RunState, RunStatus, read_runs

_DEFAULT_DIRS = ("outputs", "multirun")
_STYLES = {
    "waiting": "dim",
    "simulating": "cyan",
    "training": "green",
    "sampling": "cyan",
    RunState.STOPPED: "yellow",
    "failed": "red",
    "lost": "bold red",
}
_BY_NODE = "by node"  # omitted if no run has several nodes
_TEXTS = {"state", "node", _BY_NODE, "job"}
_LESS_NEEDED = {"node", _BY_NODE, "tries"}  # omitted if the terminal is narrower than this
_NARROW = 100
_PIPE_WIDTH = 200


def main() -> None:
    """Parse the arguments and show the status."""
    parser = ArgumentParser(
        prog="python -m framework.status",
        formatter_class=RawDescriptionHelpFormatter,
        description="Show every run below the directories: its state, progress and lost time.",
        epilog="""\
states:
  waiting     not started yet             stopped     saved and stopped early; resume with +resume=true
  simulating, training, sampling          finished    done, with samples and report
  failed      ended with an error         lost        its process died; resume with +resume=true

examples:
  python -m framework.status
  python -m framework.status outputs multirun/sweep --watch
  python -m framework.status --json | jq -r '.[] | select(.state == "lost") | .run_dir'""",
    )
    parser.add_argument("dirs", nargs="*", type=Path, help="default: outputs and multirun")
    parser.add_argument("--watch", nargs="?", type=float, const=5.0, metavar="SECONDS", help="refresh every 5 seconds")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    arguments = parser.parse_args()
    with exit_codes():
        _show(_directories(arguments.dirs), arguments.watch, arguments.json)


def _show(directories: list[Path], watch_seconds: float | None, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(run) for run in read_runs(directories)], indent=1, allow_nan=False))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    if watch_seconds is None:
        console.print(_picture(directories, console.width))
        return
    try:
        with Live(
            _picture(directories, console.width), console=console, screen=console.is_terminal, auto_refresh=False
        ) as live:
            while True:
                time.sleep(max(watch_seconds, 0.1))
                live.update(_picture(directories, console.width), refresh=True)
    except KeyboardInterrupt:  # the usual way to stop watching
        pass


def _directories(given: list[Path]) -> list[Path]:
    for path in given:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such directory; expected run directories, or directories that contain some")
    return given or [Path(name) for name in _DEFAULT_DIRS if Path(name).is_dir()]


def _picture(directories: list[Path], width: int) -> Group | Text:
    runs = read_runs(directories)
    if not runs:
        return Text(f"No runs below {', '.join(map(str, directories)) or ' or '.join(_DEFAULT_DIRS)}")
    problems = [Text(f"⚠ {problem}", style="yellow") for run in runs for problem in run.problems]
    counts = Counter(run.state for run in runs)
    summary = ", ".join(f"{counts[state]} {state}" for state in RunState if counts[state])
    return Group(_table(runs, width), Text(f"{len(runs)} run{'s' * (len(runs) > 1)}: {summary}"), *problems)


def _table(runs: list[RunStatus], width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold", ratio=1)
    rows = [_row(run) for run in runs]
    left_out = set() if width >= _NARROW else set(_LESS_NEEDED)
    if not any(losses_by_node(run.best_losses) for run in runs):
        left_out.add(_BY_NODE)
    for name in rows[0]:
        if name not in left_out:
            table.add_column(name, justify="left" if name in _TEXTS else "right")
    for run, row in zip(runs, rows, strict=True):
        shown = [row[str(column.header)] for column in table.columns[1:]]
        table.add_row(Text(run.run_dir), *shown)  # not markup: sweeps have brackets in their names
    return table


def _row(run: RunStatus) -> dict[str, Text]:
    epoch = f"{run.epoch}/{run.num_epochs or '?'}" if run.epoch is not None else None
    loss = f"{run.best_loss:.4f}" if run.best_loss is not None else None
    cells = {
        "state": run.state,
        "node": run.node,
        "epoch": epoch,
        "best loss": loss,
        _BY_NODE: losses_by_node(run.best_losses),
        "saved": _duration(run.checkpoint_age_seconds),
        "tries": str(run.attempts),
        "trained": _duration(run.trained_seconds or None),
        "lost": _duration(run.lost_seconds if run.lost_seconds >= 1 else None),
        "job": run.job_id,
    }
    return {
        name: Text(text or "–", style=_STYLES.get(run.state, "") if name == "state" else "")
        for name, text in cells.items()
    }


def _duration(seconds: float | None) -> str | None:
    """Return the duration in whole seconds, since tenths would only flicker."""
    return format_duration(math.floor(seconds)) if seconds is not None else None


if __name__ == "__main__":
    main()
