"""`metrics.jsonl`: how far the nodes of a run have come, and the loss that runs are compared by. Without torch."""

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


def read_progress(run_dir: Path, attempts: Attempts) -> RunProgress:
    """Return the progress of the run whose attempts these are; the last one says which nodes it has.

    The newest checkpoint tells of each node. Of the node under way the last record of the metrics is newer, and has the
    best loss that training itself goes by, which is not the least in the file once the held-out rows have changed.
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
    """Return each node's progress in a checkpoint: "epoch", "batch", "step" and more; what cannot be read is left out.

    The three are whole numbers, "finished" is a truth value.
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
        except (CheckpointError, LookupError, TypeError, ValueError):  # whoever resumes it is told
            continue
        progress[name.partition("/")[0]] = found
    return progress


def copy_metrics(source: Path, run_dir: Path) -> None:
    """Copy another run's metrics as far as the checkpoint that was copied: what came after it is not of this run."""
    saved = _newest_progress(run_dir)
    records = read_metrics(source / METRICS_FILE).records
    kept = [record for record in records if record["step"] <= _number(saved.get(record["node"], {}), "step", -1)]
    replace_file(run_dir / METRICS_FILE, encode_records(kept)[0])


def with_lost_records(run_dir: Path, records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a run's metrics with those that are lost, and how many these are.

    The newest checkpoint has the history of each node: what training logged of every epoch until then. Raises
    `CheckpointError` where it does not say which nodes it has.
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
    nodes = [*newest.texts("nodes"), *(record["node"] for record in records)]  # one was trained after the other
    ordered = sorted([*records, *lost], key=lambda record: (nodes.index(record["node"]), record["step"]))
    return ordered, len(lost)


def losses_by_node(best_losses: Mapping[str, float | None]) -> str:
    """Return the losses as people read them beside their sum; nothing where there is one node only."""
    shown = [f"{node} {'–' if loss is None else f'{loss:.4f}'}" for node, loss in best_losses.items()]
    return ", ".join(shown) if len(shown) > 1 else ""


def _newest_progress(run_dir: Path) -> dict[str, dict[str, Any]]:
    return saved_progress(newest_generation(run_dir / "checkpoints"))


def _number(values: Mapping[str, Any], name: str, default: float | None = None) -> Any:
    """Return a finite number, or else the default: files may be damaged."""
    value: Any = values.get(name)
    return value if type(value) in (int, float) and abs(value) < _LARGE else default
