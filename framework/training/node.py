"""One node's training within a run: what it starts from, where it is saved and what is told of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framework.checkpoint import CheckpointStore, CheckpointWriter, Generation, SaveError, Snapshot
from framework.config.duration import format_duration
from framework.config.parse import NodeSettings
from framework.errors import ConfigError, FrameworkError, RankLostError
from framework.estimators import EstimatorSpec
from framework.rng import seed_sequence, seeded
from framework.runtime import Guard, Ranks, StopReason
from framework.tracking import Console, Tracker
from framework.training.checkpoint import NodeFiles, restore, saved_facts, trained_on
from framework.training.lesson import Lesson
from framework.training.trainer import Trainer

log = logging.getLogger(__name__)

Content = Callable[[], tuple[dict[str, Any], dict[str, Any]]]  # what is saved: files and facts


@dataclass(frozen=True)
class NodeTraining:
    """Trains one node's estimator on the simulations, on from its checkpoint if it has one.

    `facts` tells of the run and the moment; what it returns is saved with each checkpoint.
    """

    spec: EstimatorSpec
    settings: NodeSettings
    seed: int
    device: torch.device
    checkpoints: CheckpointStore
    guard: Guard
    facts: Callable[[], Mapping[str, Any]]
    ranks: Ranks = field(default_factory=Ranks)
    compiled_dir: Path | None = None

    def run(
        self, simulations: Mapping[str, np.ndarray], trackers: Sequence[Tracker], console: Console
    ) -> tuple[Trainer, StopReason | None]:
        """Return the trainer, and why it stopped early if it did; its state is in the newest checkpoint."""
        newest = self.checkpoints.latest()
        node = self.spec.node
        is_saved = newest is not None and node in newest.manifest["nodes"]
        before = trained_on(newest, node) if newest and is_saved else None
        parts = (self.device.type, self.guard.policy, simulations, self.compiled_dir, before)
        lesson = Lesson(self.spec, self.settings, self.seed, *parts)
        self.ranks.share(lesson)
        with self.ranks.in_step(), seeded(seed_sequence(self.seed, node, "fit")):
            try:
                trainer, files = lesson.make_trainer(self.device, self.ranks)
            except (ConfigError, RankLostError):
                self.guard.check()  # the signal that asks for a stop may have ended a compiler as well, or a rank
                raise
            if newest and is_saved:
                files = restore(trainer, newest, files)
                saved_at = saved_facts(newest, node)["saved_at"][:16]  # to the minute
                log.info("↻ Resuming %s from %s (last saved %s)", node, _position(trainer), saved_at)
            trainer.join()
            for tracker in trackers:
                tracker.cut_back(node, trainer.progress.step)
            if trainer.progress.finished and trainer.is_done():
                log.info("%s", self._how_to_continue(trainer))
                return trainer, None
            reason = self._fit_and_save(trainer, files, newest, trackers, console)
        self._tell_end(trainer, reason)
        return trainer, reason

    def _fit_and_save(
        self,
        trainer: Trainer,
        files: NodeFiles,
        newest: Generation | None,
        trackers: Sequence[Tracker],
        console: Console,
    ) -> StopReason | None:
        """Train; at the end, and when the guard asks, save. Leaving it waits until the last save is durable."""
        nodes = list(dict.fromkeys([*(newest.manifest["nodes"] if newest else ()), self.spec.node]))

        def content() -> tuple[dict[str, Any], dict[str, Any]]:
            facts = dict(self.facts())
            return files.of(trainer, facts), {"nodes": nodes, "run": facts}

        with CheckpointWriter(self.checkpoints, self.guard) as writer:

            def save() -> None:
                trainer.collect()
                writer.save(*content())

            try:
                with self.ranks.reaching():
                    reason = _fit(trainer, save, lambda: writer.prepare(*content()), self.guard, trackers, console)
                    trainer.collect()
            except RankLostError as error:
                self._save_last(trainer, content, writer, None)
                self.guard.check()  # if all were asked to stop, that is why one is gone
                raise RankLostError(f"{error}; {_position(trainer)} is saved: go on with +resume=true") from error
            except FrameworkError:
                raise
            except Exception:
                self._save_emergency(trainer, content, writer)
                raise
            self._save_last(trainer, content, writer, reason)
        return reason

    def _save_last(
        self, trainer: Trainer, content: Content, writer: CheckpointWriter, reason: StopReason | None
    ) -> None:
        """Save, and wait until that is durable; if it fails, say what a resumed run will not have."""
        try:
            writer.save(*content())
            writer.flush()
        except SaveError as error:
            what = f"{reason.word} at {_position(trainer)}, which is not saved" if reason else "The end is not saved"
            raise SaveError(f"{what} — {error}; then go on with +resume=true") from error

    def _save_emergency(self, trainer: Trainer, content: Content, writer: CheckpointWriter) -> None:
        """After an unexpected error, keep the last completed step beside the checkpoints, if nothing is half done."""
        if not trainer.is_between_steps:
            log.error("✗ The error came in the middle of an update; +resume=true goes on from the last checkpoint")
            return
        try:
            with self.guard.saving():
                writer.wait()
                files, facts = Snapshot().take(content())
                generation = self.checkpoints.commit(files, facts, emergency=True)
        except Exception as error:  # whatever is wrong here must not hide what was wrong first
            log.error("✗ No emergency checkpoint: %s", error)
            return
        log.error(
            "✗ Emergency checkpoint of %s, step %d: %s\n  +resume=true goes on from the checkpoint before it, "
            "name=… resume_from=%s from this one",
            _position(trainer),
            trainer.progress.step,
            generation.path,
            generation.path,
        )

    def _tell_end(self, trainer: Trainer, reason: StopReason | None) -> None:
        node, progress = trainer.node, trainer.progress
        if reason:
            saved = self.checkpoints.root / "latest" / node
            log.warning("⚠ %s at %s — model + weights saved to %s/", reason.word, _position(trainer), saved)
        else:
            best = f"{progress.best_loss:.4f} at epoch {progress.best_epoch}"
            early = f"{_early_stop(trainer)}, " if trainer.has_stopped_early() else ""
            log.info("%s: %sbest validation loss %s, in %s", node, early, best, format_duration(progress.train_seconds))

    def _how_to_continue(self, trainer: Trainer) -> str:
        """Return why training has ended for good, and which key continues it."""
        node, loop = trainer.node, trainer.loop
        if trainer.has_stopped_early():
            key = self.settings.key_of(node, "loop.early_stop_patience")
            more = f"{key}={2 * (loop.early_stop_patience or 1)} 'resume_allow=[{key}]'"
            return f"{node}: {_early_stop(trainer)}; to continue training: {more}"
        key = self.settings.key_of(node, "loop.num_epochs")
        return f"{node}: trained for {loop.num_epochs} epochs; to continue training, raise {key}"


def _fit(
    trainer: Trainer,
    save: Callable[[], None],
    prepare_save: Callable[[], None],
    guard: Guard,
    trackers: Sequence[Tracker],
    console: Console,
) -> StopReason | None:
    node, progress = trainer.node, trainer.progress

    def on_epoch(record: dict[str, float]) -> None:
        for tracker in trackers:
            tracker.log({"node": node, **record})
        console.epoch(record, progress.best_loss, progress.best_epoch, last=trainer.is_done())

    with console.phase(f"training {node}", trainer.loop.num_epochs, progress.epoch):
        return trainer.fit(guard, save, on_epoch, prepare_save)


def _early_stop(trainer: Trainer) -> str:
    return f"stopped early at epoch {trainer.progress.epoch} (patience {trainer.loop.early_stop_patience})"


def _position(trainer: Trainer) -> str:
    """Return the epoch under way, or the last one, as people count."""
    return f"epoch {trainer.progress.epoch + (trainer.progress.batch > 0)}/{trainer.loop.num_epochs}"
