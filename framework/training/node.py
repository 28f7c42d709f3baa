"""One node's training within a run: what it starts from, where it is saved and what is told of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from framework.checkpoint import CheckpointStore, CheckpointWriter
from framework.config.duration import format_duration
from framework.config.parse import NodeSettings
from framework.errors import ConfigError
from framework.estimators import Estimator, EstimatorSpec
from framework.estimators.files import INIT_FILE, init_parameters
from framework.rng import seed_sequence, seeded
from framework.runtime import Guard, StopReason
from framework.tracking import Console, Tracker
from framework.training.checkpoint import node_files, restore
from framework.training.data import TrainingData
from framework.training.trainer import Trainer

log = logging.getLogger(__name__)


def train_node(
    spec: EstimatorSpec,
    settings: NodeSettings,
    simulations: Mapping[str, np.ndarray],
    seed: int,
    device: torch.device,
    checkpoints: CheckpointStore,
    guard: Guard,
    trackers: Sequence[Tracker],
    console: Console,
) -> tuple[Trainer, StopReason | None]:
    """Train the node's estimator on the simulations, on from its checkpoint if it has one.

    Returns the trainer, and why it stopped early if it did. Either way its state is in the
    newest checkpoint.
    """
    newest = checkpoints.latest()
    resumed = newest if newest and spec.node in newest.manifest["nodes"] else None
    with seeded(seed_sequence(seed, spec.node, "fit")):
        try:
            trainer, initial = _make_trainer(spec, settings, simulations, seed, device)
        except ConfigError:
            guard.check()  # the signal that asks for a stop may have ended the compiler as well
            raise
        if resumed:
            restore(trainer, resumed)
            initial = resumed.load(f"{spec.node}/{INIT_FILE}")
            log.info("↻ Resuming %s from %s", spec.node, _position(trainer))
        for tracker in trackers:
            tracker.cut_back(spec.node, trainer.progress.step)
        if trainer.progress.finished and trainer.is_done():
            return trainer, None
        trained = sorted({spec.node, *(newest.manifest["nodes"] if newest else ())})
        with CheckpointWriter(checkpoints) as writer:

            def save() -> None:
                with guard.saving():
                    writer.save(node_files(trainer, initial), {"nodes": trained})

            reason = _fit(trainer, save, guard, trackers, console)
            with guard.saving():
                writer.flush()
            if writer.save_seconds is not None:
                guard.learn_write(writer.save_seconds)
    _tell_end(trainer, checkpoints, reason)
    return trainer, reason


def _make_trainer(
    spec: EstimatorSpec, settings: NodeSettings, simulations: Mapping[str, np.ndarray], seed: int, device: torch.device
) -> tuple[Trainer, dict[str, Any]]:
    """Build estimator, data and trainer; also return the estimator's first parameters."""
    estimator = Estimator(spec)
    theta = torch.from_numpy(simulations[spec.node]).flatten(1)
    evidence = {name: torch.from_numpy(simulations[name]) for name in spec.evidence_shapes}
    u, prepared = estimator.prepare(theta, evidence)
    data = TrainingData.split(u, prepared, settings.loop.validation_fraction, seed, spec.node, device)
    rows = data.train_rows.cpu()
    estimator.fit_standardisation(u[rows], {name: value[rows] for name, value in prepared.items()})
    initial = init_parameters(estimator)
    return Trainer(estimator.to(device), data, settings.loop, settings.optimizer, seed), initial


def _fit(
    trainer: Trainer, save: Callable[[], None], guard: Guard, trackers: Sequence[Tracker], console: Console
) -> StopReason | None:
    node, progress = trainer.node, trainer.progress

    def on_epoch(record: dict[str, float]) -> None:
        for tracker in trackers:
            tracker.log({"node": node, **record})
        console.epoch(record, progress.best_loss, progress.best_epoch, last=trainer.is_done())

    with console.phase(f"training {node}", trainer.loop.num_epochs, progress.epoch):
        reason = trainer.fit(guard, save, on_epoch)
        save()
    return reason


def _tell_end(trainer: Trainer, checkpoints: CheckpointStore, reason: StopReason | None) -> None:
    node, progress = trainer.node, trainer.progress
    if reason:
        saved = checkpoints.root / "latest" / node
        log.warning("⚠ %s at %s — model + weights saved to %s/", reason.word, _position(trainer), saved)
    else:
        best, took = f"{progress.best_loss:.4f} at epoch {progress.best_epoch}", format_duration(progress.train_seconds)
        log.info("%s: best validation loss %s, in %s", node, best, took)


def _position(trainer: Trainer) -> str:
    """Return the epoch under way, or the last one, as people count."""
    return f"epoch {trainer.progress.epoch + (trainer.progress.batch > 0)}/{trainer.loop.num_epochs}"
