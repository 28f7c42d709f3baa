"""Training of one node within a run: resuming, saving and reporting."""

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
    """Train one node's estimator on the simulations, resuming from its checkpoint if there is one.

    `metadata` returns a description of the run at the time of the call, which is saved with each checkpoint.
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
        """Train, resuming from the run's `newest` checkpoint if it contains the node.

        Return the trainer, the reason if it was stopped before the end, and the now newest checkpoint.
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
                self.guard.check()  # the stop signal may have killed a compiler or a rank
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
        self._log_end(trainer, reason)
        return trainer, reason, generation

    def _fit_and_save(
        self, trainer: Trainer, checkpointer: Checkpointer, trackers: Sequence[Tracker], console: Console
    ) -> tuple[StopReason | None, Generation]:
        """Train; save at the end and whenever the guard requests it."""
        with checkpointer:
            try:
                with self.distributed.detect_lost_ranks():
                    reason = _fit(trainer, checkpointer, self.guard, trackers, console)
                    state = trainer.state.gather()
            except RankLostError as error:
                checkpointer.save_last(trainer.state.state_dict(), None)
                self.guard.check()  # if all ranks were asked to stop, report that instead
                raise RankLostError(f"{error}; {trainer.position} is saved: resume with +resume=true") from error
            except FrameworkError:
                raise
            except Exception:
                checkpointer.save_emergency()
                raise
            return reason, checkpointer.save_last(state, reason)

    def _log_end(self, trainer: Trainer, reason: StopReason | None) -> None:
        node, progress = trainer.node, trainer.progress
        if reason:
            saved = self.checkpoints.root / "latest" / node
            log.warning("⚠ %s at %s — model + weights saved to %s/", reason.word, trainer.position, saved)
        else:
            best = f"{progress.best_loss:.4f} at epoch {progress.best_epoch}"
            early = f"{_early_stop(trainer)}, " if trainer.has_stopped_early() else ""
            log.info("%s: %sbest validation loss %s, in %s", node, early, best, format_duration(progress.train_seconds))

    def _how_to_train_longer(self, trainer: Trainer) -> str:
        """Return why training is complete, and the key with which it can be continued."""
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
