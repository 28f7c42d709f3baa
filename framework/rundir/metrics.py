"""How far a run's nodes have come, and the loss that runs are compared by: read from its files, without torch."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.rundir.attempts import manifests, write_atomically


@dataclass(frozen=True)
class RunProgress:
    """The node trained last and its epoch, and of each node of the run's config the best validation loss, if any."""

    node: str | None
    epoch: int | None
    best_losses: dict[str, float | None]
    problems: list[str]

    @property
    def best_loss(self) -> float | None:
        """The loss that runs are compared by: the sum over the nodes, or None while one of them has none."""
        losses = [loss for loss in self.best_losses.values() if loss is not None]
        return sum(losses) if losses and len(losses) == len(self.best_losses) else None


def read_progress(run_dir: Path, attempts: Sequence[Mapping[str, Any]]) -> RunProgress:
    """Return the progress of the run whose attempts these are; the last one says which nodes it has.

    The newest checkpoint tells of each node. Of the node under way the last record of the metrics is newer, and has the
    best loss that training itself goes by, which is not the least in the file once the held-out rows have changed.
    """
    nodes = list(attempts[-1].get("num_epochs") or ()) if attempts else []
    saved = _newest_progress(run_dir)
    latest = {node: saved[node] for node in nodes if node in saved}
    records, problems = _read_metrics(run_dir / "metrics.jsonl")
    last = next((record for record in reversed(records) if record.get("node") in nodes), None)
    node: str | None = last["node"] if last else next(reversed(latest), None)
    if last and node and _number(last, "step", -1) > _step(latest, node):
        latest[node] = latest.get(node, {}) | last
    epoch = _number(latest.get(node, {}), "epoch") if node else None
    best_losses = {name: _number(latest.get(name, {}), "best_loss") for name in nodes}
    return RunProgress(node, None if epoch is None else int(epoch), best_losses, problems)


def saved_progress(generation: Path | None) -> dict[str, dict[str, Any]]:
    """Return each node's progress in a checkpoint."""
    progress = {}
    for path in sorted(generation.glob("*/checkpoint.json")) if generation else ():
        with suppress(OSError, ValueError, KeyError, TypeError):
            progress[path.parent.name] = dict(json.loads(path.read_text(encoding="utf-8"))["progress"])
    return progress


def copy_metrics(source: Path, run_dir: Path) -> None:
    """Copy another run's metrics as far as the checkpoint that was copied: what came after it is not of this run."""
    saved = _newest_progress(run_dir)
    records, _ = _read_metrics(source / "metrics.jsonl")
    kept = [record for record in records if _number(record, "step", 0) <= _step(saved, record.get("node"))]
    write_atomically(run_dir / "metrics.jsonl", "".join(f"{json.dumps(record)}\n" for record in kept))


def losses_by_node(best_losses: Mapping[str, float | None]) -> str:
    """Return the losses as people read them beside their sum; nothing where there is one node only."""
    shown = [f"{node} {'–' if loss is None else f'{loss:.4f}'}" for node, loss in best_losses.items()]
    return ", ".join(shown) if len(shown) > 1 else ""


def _newest_progress(run_dir: Path) -> dict[str, dict[str, Any]]:
    generations = manifests(run_dir)
    return saved_progress(generations[-1].parent) if generations else {}


def _step(progress: Mapping[str, Mapping[str, Any]], node: Any) -> Any:
    """Return the step that a node has reached, -1 where it has not begun."""
    return _number(progress.get(node, {}), "step", -1)


def _number(values: Mapping[str, Any], name: str, default: float | None = None) -> Any:
    """Return a finite number, or else the default: files may be damaged."""
    value = values.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else default


def _read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the whole records, and what is wrong with the file; half a last line is one being written."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except OSError:
        return [], []
    records = [record for record in _parse(lines) if isinstance(record, dict)]
    num_damaged = len(lines) - len(records)
    return records, [f"{path}: damaged in {num_damaged} of {len(lines)} lines"] if num_damaged else []


def _parse(lines: list[str]) -> Iterator[Any]:
    try:
        yield from json.loads(f"[{','.join(lines)}]")  # several times faster than line by line
    except ValueError:
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)
