"""A trainer's state as the files of one node in a checkpoint, and back."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from framework.checkpoint import Generation, check_classes, class_paths
from framework.estimators import Estimator
from framework.estimators.files import INIT_FILE, init_parameters, read_weights, weight_files
from framework.training.changed import adapted, with_new_schedule
from framework.training.data import TrainingData
from framework.training.trainer import Trainer

log = logging.getLogger(__name__)

_STATE, _OPTIMIZER, _SIMULATIONS = "checkpoint.json", "optimizer.pth", "simulations.pth"
_FACTS = "run"


@dataclass(frozen=True)
class NodeFiles:
    """A node's files; these contents stay the same throughout, so that the store links them from save to save."""

    initial: dict[str, Any]  # what rebuilds the estimator: its spec and first weights
    simulations: dict[str, Tensor]  # ids of the simulations that are trained on, and of those held out

    @classmethod
    def at_start(cls, estimator: Estimator, ids: np.ndarray, data: TrainingData) -> Self:
        """Take the constant contents from an estimator that was not trained yet."""
        rows = {"training": data.train_rows, "validation": data.val_rows}
        ids_by_set = {name: torch.from_numpy(ids)[value.cpu()] for name, value in rows.items()}
        return cls(init_parameters(estimator), ids_by_set)

    def of(self, trainer: Trainer, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return {path below the generation: content} with everything that the node needs to go on."""
        trainer.settle()
        states = {name: part.state_dict() for name, part in trainer.parts.items()}
        files: dict[str, Any] = weight_files(trainer.estimator, states.pop("estimator"))
        files |= weight_files(trainer.estimator, trainer.best, "_best")
        files[INIT_FILE], files[_SIMULATIONS] = self.initial, self.simulations
        files[_OPTIMIZER] = {"optimizer": states.pop("optimizer"), "scheduler": states.pop("scheduler")}
        files[_STATE] = {
            **states,
            "classes": class_paths(trainer.parts),
            "settings": {"optimizer": trainer.optimizer_block, "batch_size": trainer.loop.batch_size},
            _FACTS: dict(facts),
        }
        if trainer.of_ranks:  # as just collected; an emergency has none
            files[_STATE]["ranks"], trainer.of_ranks = trainer.of_ranks, []
        return {f"{trainer.node}/{name}": content for name, content in files.items()}


def restore(trainer: Trainer, generation: Generation, files: NodeFiles) -> NodeFiles:
    """Bring the trainer to the state in the checkpoint; return the files to go on with.

    Where the trainer has other simulations than the checkpoint, and epochs left, patience and the learning-rate
    schedule start again. Raises `CheckpointError` where the checkpoint is of other parts than the trainer's.
    """
    node = trainer.node
    states = generation.load(f"{node}/{_STATE}")
    classes = states.pop("classes")
    del states[_FACTS]
    trainer.of_ranks = states.pop("ranks", [])
    if (num_before := len(trainer.of_ranks) or 1) != (num_now := trainer.ranks.size):
        log.warning(
            "⚠ %d processes train instead of %d: with the same batches, but not bit for bit", num_now, num_before
        )
    states |= generation.load(f"{node}/{_OPTIMIZER}")
    states, classes = adapted(states, classes, trainer, **states.pop("settings"))
    check_classes(trainer.parts, classes)
    states["estimator"] = read_weights(trainer.estimator, generation)
    seen = trained_on(generation, node)
    states["progress"] = {"datasets": [_dataset(seen)], **states["progress"]}
    is_other = any(not torch.equal(seen[name], ids) for name, ids in files.simulations.items())
    starts_again = is_other and states["progress"]["epoch"] < trainer.loop.num_epochs
    if starts_again:
        states = with_new_schedule(states, trainer)
    trainer.load_state(states, best=read_weights(trainer.estimator, generation, "_best"))
    if starts_again:
        trainer.begin_dataset()
        log.info("%s", _dataset_change(trainer))
    return replace(files, initial=generation.load(f"{node}/{INIT_FILE}"))


def trained_on(generation: Generation, node: str) -> dict[str, Tensor]:
    """Return the ids of the simulations that the node's state has seen, under "training" and "validation"."""
    ids: dict[str, Tensor] = generation.load(f"{node}/{_SIMULATIONS}")
    return ids


def dataset_of_best(generation: Generation, node: str) -> dict[str, int]:
    """Return the numbers of simulations, "training" and "validation", that the node's best weights have come from."""
    progress = generation.load(f"{node}/{_STATE}")["progress"]
    datasets: list[dict[str, int]] = progress.get("datasets") or [_dataset(trained_on(generation, node))]
    return [dataset for dataset in datasets if dataset["epoch"] < max(progress["best_epoch"], 1)][-1]


def _dataset(ids: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the one entry of `Progress.datasets` for a checkpoint from before there were any."""
    return {"epoch": 0, **{name: len(value) for name, value in ids.items()}}


def _dataset_change(trainer: Trainer) -> str:
    """Return the line that says what the trainer's other simulations change."""
    progress, rate = trainer.progress, trainer.optimizer.param_groups[0]["lr"]
    before, now = progress.datasets[-2:]
    line = (
        f"{trainer.node}: {now['training']} simulations to train on instead of {before['training']}, "
        f"{now['validation']} held out instead of {before['validation']}: "
        f"patience and the learning rate ({rate:g}) start again"
    )
    if progress.best_epoch:
        line += f"; best validation loss now {progress.best_loss:.4f} (epoch {progress.best_epoch})"
    return line


def saved_facts(generation: Generation, node: str) -> dict[str, Any]:
    """Return what `NodeFiles.of` was told of the run when the node was last saved."""
    facts: dict[str, Any] = generation.load(f"{node}/{_STATE}")[_FACTS]
    return facts
