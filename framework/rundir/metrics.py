"""The progress of a run's nodes and the loss by which runs are compared, from `metrics.jsonl`; without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import Generation, newest_generation
from framework.errors import CheckpointError
from framework.files import replace_file
from framework.rundir.attempts import Attempts
from framework.rundir.metric_lines import METRICS_FILE, Metrics, encode_records, is_record, read_metrics

STATE_FILE = "checkpoint.json"  # of a node in a checkpoint
_LARGE = 2**63


@dataclass(frozen=True)
class RunProgress:
    """The last trained node and its epoch, and the best validation loss, if any, of each node in the run's config."""

    node: str | None
    epoch: int | None
    best_losses: dict[str, float | None]
    problems: list[str]

    @property
    def best_loss(self) -> float | None:
        """The loss by which runs are compared: the sum over the nodes, or None while a node has none."""
        losses = [loss for loss in self.best_losses.values() if loss is not None]
        return sum(losses) if losses and len(losses) == len(self.best_losses) else None


def read_progress(run_dir: Path, attempts: Attempts) -> RunProgress:
    """Return the progress of the run with these attempts; the last one lists the run's nodes.

    The newest checkpoint has the progress of each node. For the current node, the last record of the metrics is
    newer. Its best loss is the one that training uses, not the minimum in the file: validation rows may have changed.
    """
    nodes = list(attempts.last.num_epochs) if attempts.last else []
    saved = _newest_progress(run_dir)
    latest = {node: saved[node] for node in nodes if node in saved}
    try:
        metrics = read_metrics(run_dir / METRICS_FILE)
    except CheckpointError as error:
        metrics = Metrics([], [str(error)])
    last = next((record for record in reversed(metrics.records) if record["node"] in nodes), None)
    node: str | None = last["node"] if last else next(reversed(latest), None)
    if last and node and last["step"] > _number(latest.get(node, {}), "step", -1):
        latest[node] = latest.get(node, {}) | last
    epoch = _number(latest.get(node, {}), "epoch") if node else None
    best_losses = {name: _number(latest.get(name, {}), "best_loss") for name in nodes}
    return RunProgress(node, None if epoch is None else int(epoch), best_losses, metrics.problems)


def saved_progress(generation: Generation | None) -> dict[str, dict[str, Any]]:
    """Return each node's progress in a checkpoint: "epoch", "batch" and "step" (int), "finished" (bool) and more.

    Nodes whose state cannot be read are skipped.
    """
    progress = {}
    names = [name for name in generation.files if name.endswith(f"/{STATE_FILE}")] if generation else []
    for name in names:
        assert generation is not None
        try:
            content = generation.load(name)
            found = dict(content["progress"])
            found |= {key: int(found.get(key, 0)) for key in ("epoch", "batch", "step")}
            found["finished"] = bool(found.get("finished"))
        except (CheckpointError, LookupError, TypeError, ValueError):  # resuming reports it
            continue
        progress[name.partition("/")[0]] = found
    return progress


def copy_metrics(source: Path, run_dir: Path) -> None:
    """Copy another run's metrics up to the copied checkpoint; later ones do not belong to this run."""
    saved = _newest_progress(run_dir)
    records = read_metrics(source / METRICS_FILE).records
    kept = [record for record in records if record["step"] <= _number(saved.get(record["node"], {}), "step", -1)]
    replace_file(run_dir / METRICS_FILE, encode_records(kept)[0])


def with_lost_records(run_dir: Path, records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a run's metrics together with recovered lost ones, and the number of these.

    They are recovered from the newest checkpoint's history of each node, with the metrics of all epochs until then.
    Raises `CheckpointError` if the checkpoint does not list its nodes.
    """
    newest = newest_generation(run_dir / "checkpoints")
    known = {(record["node"], record["step"]) for record in records}
    lost = []
    for node, progress in saved_progress(newest).items():
        history = progress.get("history")
        for entry in history if isinstance(history, list) else ():
            record = {"node": node, **entry} if isinstance(entry, dict) else {}
            if is_record(record) and (record["node"], record["step"]) not in known:
                lost.append(record)
    if not newest or not lost:
        return records, 0
    nodes = [*newest.texts("nodes"), *(record["node"] for record in records)]  # in order of training
    ordered = sorted([*records, *lost], key=lambda record: (nodes.index(record["node"]), record["step"]))
    return ordered, len(lost)


def losses_by_node(best_losses: Mapping[str, float | None]) -> str:
    """Return the losses as text to show beside their sum; empty if there is only one node."""
    shown = [f"{node} {'–' if loss is None else f'{loss:.4f}'}" for node, loss in best_losses.items()]
    return ", ".join(shown) if len(shown) > 1 else ""


def _newest_progress(run_dir: Path) -> dict[str, dict[str, Any]]:
    return saved_progress(newest_generation(run_dir / "checkpoints"))


def _number(values: Mapping[str, Any], name: str, default: float | None = None) -> Any:
    """Return a value if it is a finite number, else the default, since files may be damaged."""
    value: Any = values.get(name)
    return value if type(value) in (int, float) and abs(value) < _LARGE else default
