"""One node's training within a run: what it starts from, where it is saved and what is told of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from framework.checkpoint import CheckpointStore, Generation
from framework.config.duration import format_duration
from framework.config.parse import NodeSettings
from framework.errors import ConfigError, FrameworkError, RankLostError
from framework.estimators import EstimatorSpec
from framework.rng import seed_sequence, seeded
from framework.runtime import DistributedContext, Guard, StopReason
from framework.tracking import Console, Tracker
from framework.training.checkpointer import Checkpointer, Metadata
from framework.training.node_files import nodes_in, trained_on
from framework.training.train_task import TrainTask
from framework.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeTraining:
    """Trains one node's estimator on the simulations, on from its checkpoint if it has one.

    `metadata` tells of the run and the moment; what it returns is saved with each checkpoint.
    """

    spec: EstimatorSpec
    settings: NodeSettings
    seed: int
    device: torch.device
    checkpoints: CheckpointStore
    guard: Guard
    metadata: Metadata
    distributed: DistributedContext = field(default_factory=DistributedContext)
    compiled_dir: Path | None = None

    def run(
        self,
        simulations: Mapping[str, np.ndarray],
        trackers: Sequence[Tracker],
        console: Console,
        newest: Generation | None,
    ) -> tuple[Trainer, StopReason | None, Generation]:
        """Train, from the run's `newest` checkpoint on if that has the node.

        Return the trainer, why it stopped early, if it did, and the checkpoint that now is the newest.
        """
        node = self.spec.node
        saved = newest if newest and node in nodes_in(newest) else None
        before = trained_on(saved, node) if saved else None
        task = TrainTask(
            self.spec,
            self.settings,
            self.seed,
            self.device.type,
            self.guard.policy,
            simulations,
            self.compiled_dir,
            before,
        )
        self.distributed.broadcast_object(task)
        with self.distributed.training(), seeded(seed_sequence(self.seed, node, "fit")):
            try:
                trainer, files = task.make_trainer(self.device, self.distributed)
            except (ConfigError, RankLostError):
                self.guard.check()  # the signal that asks for a stop may have ended a compiler as well, or a rank
                raise
            checkpointer = Checkpointer(trainer, files, self.checkpoints, self.guard, self.metadata, newest)
            if saved:
                checkpointer.restore(saved)
            trainer.join()
            for tracker in trackers:
                tracker.cut_back(node, trainer.progress.step)
            if saved and trainer.progress.finished and trainer.is_done():
                log.info("%s", self._how_to_train_longer(trainer))
                return trainer, None, saved
            reason, generation = self._fit_and_save(trainer, checkpointer, trackers, console)
        self._tell_end(trainer, reason)
        return trainer, reason, generation

    def _fit_and_save(
        self, trainer: Trainer, checkpointer: Checkpointer, trackers: Sequence[Tracker], console: Console
    ) -> tuple[StopReason | None, Generation]:
        """Train; at the end, and when the guard asks, save."""
        with checkpointer:
            try:
                with self.distributed.detect_lost_ranks():
                    reason = _fit(trainer, checkpointer, self.guard, trackers, console)
                    state = trainer.state.gather()
            except RankLostError as error:
                checkpointer.save_last(trainer.state.state_dict(), None)
                self.guard.check()  # if all were asked to stop, that is why one is gone
                raise RankLostError(f"{error}; {trainer.position} is saved: go on with +resume=true") from error
            except FrameworkError:
                raise
            except Exception:
                checkpointer.save_emergency()
                raise
            return reason, checkpointer.save_last(state, reason)

    def _tell_end(self, trainer: Trainer, reason: StopReason | None) -> None:
        node, progress = trainer.node, trainer.progress
        if reason:
            saved = self.checkpoints.root / "latest" / node
            log.warning("⚠ %s at %s — model + weights saved to %s/", reason.word, trainer.position, saved)
        else:
            best = f"{progress.best_loss:.4f} at epoch {progress.best_epoch}"
            early = f"{_early_stop(trainer)}, " if trainer.has_stopped_early() else ""
            log.info("%s: %sbest validation loss %s, in %s", node, early, best, format_duration(progress.train_seconds))

    def _how_to_train_longer(self, trainer: Trainer) -> str:
        """Return why training has ended for good, and which key continues it."""
        node, loop = trainer.node, trainer.loop
        if trainer.has_stopped_early():
            key = self.settings.key_of(node, "loop.early_stop_patience")
            more = f"{key}={2 * (loop.early_stop_patience or 1)} 'resume_allow=[{key}]'"
            return f"{node}: {_early_stop(trainer)}; to continue training: {more}"
        key = self.settings.key_of(node, "loop.num_epochs")
        return f"{node}: trained for {loop.num_epochs} epochs; to continue training, raise {key}"


def _fit(
    trainer: Trainer, checkpointer: Checkpointer, guard: Guard, trackers: Sequence[Tracker], console: Console
) -> StopReason | None:
    node, progress = trainer.node, trainer.progress

    def on_epoch(record: dict[str, float]) -> None:
        for tracker in trackers:
            tracker.log({"node": node, **record})
        console.epoch(record, progress.best_loss, progress.best_epoch, last=trainer.is_done())

    with console.phase(f"training {node}", trainer.loop.num_epochs, progress.epoch):
        return trainer.fit(guard, checkpointer.save, on_epoch, checkpointer.prepare)


def _early_stop(trainer: Trainer) -> str:
    return f"stopped early at epoch {trainer.progress.epoch} (patience {trainer.loop.early_stop_patience})"
