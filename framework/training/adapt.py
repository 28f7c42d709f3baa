"""Adaptation of a checkpoint's state to training settings that the user has changed."""

from collections.abc import Mapping
from typing import Any

from framework.checkpoint import check_classes, class_paths
from framework.checkpoint.stateful import EntryError
from framework.config.target import build, targets_of
from framework.errors import CheckpointError
from framework.training.trainer import Trainer


def adapted(
    states: dict[str, Any], classes: Mapping[str, str], trainer: Trainer, optimizer: Mapping[str, Any], batch_size: int
) -> dict[str, Any]:
    """Return the states of `trainer`'s parts, adapted to its settings.

    `classes`, `optimizer`'s block and `batch_size` are those with which the states were saved. Raises
    `CheckpointError` if the classes differ from the trainer's; none of them is built.

    Optimizer and schedule store their settings in their state, so loading it would undo a change:
    wherever a new object with the new settings differs from one with the old settings, the new value
    is used. A changed learning rate applies immediately, scaled by the schedule's factor so far; a
    schedule of another class starts from its beginning. With another batch size, the current epoch
    starts again.
    """
    old, new = optimizer, trainer.optimizer_block
    is_same_schedule = old["scheduler"]["_target_"] == new["scheduler"]["_target_"]
    if not is_same_schedule:
        classes = {**classes, "scheduler": class_paths(trainer.state.parts)["scheduler"]}
    check_classes(trainer.state.parts, classes)
    if old != new:
        try:
            states = {**states, **_optimizer_states(states, trainer, _restrict_classes(old, new), new)}
        except CheckpointError:
            raise
        except Exception as error:  # settings from a damaged or forged checkpoint may raise anything
            raise EntryError("settings", error) from error
        if not is_same_schedule:
            states = with_new_schedule(states, trainer)
    if batch_size != trainer.loop.batch_size:
        states = {**states, "progress": {**states["progress"], "batch": 0, "loss_sum": 0.0}}
    return states


def with_new_schedule(states: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """Return the states of `trainer`'s parts with the learning-rate schedule reset to its start."""
    fresh = _initial_states(trainer.optimizer_block, trainer)
    optimizer = {**states["optimizer"], "param_groups": fresh["optimizer"]["param_groups"]}
    return {**states, "optimizer": optimizer, "scheduler": fresh["scheduler"]}


def _restrict_classes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the saved block, checked to name only classes of the new one: a checkpoint must not choose imports.

    If the schedule's class has changed, the new schedule replaces the saved one.
    """
    block = {**old, "_target_": new["_target_"]}
    if old["scheduler"]["_target_"] != new["scheduler"]["_target_"]:
        block["scheduler"] = new["scheduler"]
    known = targets_of(new)
    if unknown := [target for place, target in targets_of(block).items() if known.get(place) != target]:
        raise ValueError(f"optimizer names {', '.join(map(repr, unknown))}, which the run's settings do not")
    return block


def _optimizer_states(
    states: Mapping[str, Any], trainer: Trainer, old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    before, after = (_initial_states(block, trainer) for block in (old, new))
    optimizer = _with_changes(states["optimizer"], before["optimizer"], after["optimizer"])
    for saved, first, last, group in zip(
        *(state["param_groups"] for state in (states["optimizer"], before["optimizer"], after["optimizer"], optimizer)),
        strict=True,
    ):
        base = [g.get("initial_lr", g["lr"]) for g in (first, last)]
        group["lr"] = saved["lr"] * base[1] / base[0] if base[0] else last["lr"]
    scheduler = _with_changes(states["scheduler"], before["scheduler"], after["scheduler"])
    if "_last_lr" in scheduler:
        scheduler["_last_lr"] = [group["lr"] for group in optimizer["param_groups"]]
    return {"optimizer": optimizer, "scheduler": scheduler}


def _initial_states(block: Mapping[str, Any], trainer: Trainer) -> dict[str, Any]:
    """Return the states of an optimizer and a schedule before their first step."""
    arguments = {name: value for name, value in block.items() if name != "scheduler"}
    optimizer = build(arguments, "optimizer", params=trainer.parameters)
    scheduler = build(block["scheduler"], "optimizer.scheduler", optimizer=optimizer)
    return {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}


def _with_changes(saved: Any, before: Any, after: Any) -> Any:
    """Return `saved` with the changes from `before` to `after` applied."""
    if isinstance(saved, dict) and isinstance(before, dict) and isinstance(after, dict):
        return {
            name: _with_changes(saved.get(name, after.get(name)), before.get(name), after.get(name))
            for name in [*saved, *(name for name in after if name not in saved)]
        }
    if isinstance(saved, list) and isinstance(after, list) and isinstance(before, list) and len(saved) == len(after):
        return [_with_changes(*items) for items in zip(saved, before, after, strict=True)]
    return saved if before == after else after
