"""Saving and restoring one node's training."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch

from framework.checkpoint import (
    CheckpointStore,
    CheckpointWriter,
    Generation,
    SaveError,
    Snapshot,
    class_paths,
)
from framework.checkpoint.stateful import EntryError
from framework.runtime import Guard, StopReason
from framework.training.adapt import adapted, with_new_schedule
from framework.training.node_files import (
    NodeFiles,
    file_of,
    invalid_content,
    nodes_in,
    read_initial,
    read_state,
    trained_on,
)
from framework.training.trainer import Trainer

log = logging.getLogger(__name__)

Metadata = Callable[[], Mapping[str, Any]]


class Checkpointer:
    """Save a trainer's state as the files of its node, and restore it.

    `metadata` returns a description of the run at the time of the call, which is saved with each checkpoint. `newest`
    is the run's newest checkpoint, whose other nodes are kept. Leaving the context waits until the last save is
    durable.
    """

    def __init__(
        self,
        trainer: Trainer,
        files: NodeFiles,
        store: CheckpointStore,
        guard: Guard,
        metadata: Metadata,
        newest: Generation | None = None,
    ) -> None:
        self._trainer = trainer
        self._files = files
        self._store = store
        self._guard = guard
        self._metadata = metadata
        self._nodes = list(dict.fromkeys([*nodes_in(newest), trainer.node]))
        self._writer = CheckpointWriter(store, guard)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, trace)

    def restore(self, generation: Generation) -> None:
        """Restore the trainer's state from the checkpoint.

        If the simulations have changed since the checkpoint and epochs are left, early stopping and the learning-rate
        schedule start again. Raises `CheckpointError` if the checkpoint does not fit the trainer's parts.
        """
        trainer, node = self._trainer, self._trainer.node
        states, about = read_state(generation, trainer.estimator)
        if (num_before := len(states.get("ranks", ())) or 1) != (num_now := trainer.distributed.world_size):
            log.warning(
                "⚠ the number of processes has changed from %d to %d: same batches, but not bit-for-bit equal results",
                num_before,
                num_now,
            )
        seen = trained_on(generation, node)
        is_other = any(not torch.equal(seen[name], ids) for name, ids in self._files.simulations.items())
        starts_again = is_other and states["progress"]["epoch"] < trainer.loop.num_epochs
        try:
            states = adapted(states, about["classes"], trainer, **about["settings"])
            trainer.load_state(with_new_schedule(states, trainer) if starts_again else states)
        except EntryError as error:
            raise invalid_content(file_of(generation, node, error.entry), error) from error
        if starts_again:
            trainer.begin_dataset()
            log.info("%s", _dataset_change(trainer))
        self._files = replace(self._files, initial=read_initial(generation, node))
        saved_at = about["run"]["saved_at"][:16]  # to the minute
        log.info("↻ Resuming %s from %s (last saved %s)", node, trainer.position, saved_at)

    def prepare(self) -> None:
        """Do the work of the first save in advance: allocate buffers, and reject values that cannot be restored."""
        self._writer.prepare(*self._content(self._trainer.state.state_dict()))

    def save(self) -> None:
        """Save in the background; all ranks must call `gather`."""
        self._writer.save(*self._content(self._trainer.state.gather()))

    def save_last(self, state: Mapping[str, Any], reason: StopReason | None) -> Generation:
        """Save and wait until it is durable; if that fails, the error says what a resumed run will lack."""
        try:
            self._writer.save(*self._content(state))
            generation = self._writer.flush()
        except SaveError as error:
            position = self._trainer.position
            what = f"{reason.word} at {position}, which is not saved" if reason else "The final state is not saved"
            raise SaveError(f"{what} — {error}; then resume with +resume=true") from error
        assert generation is not None, "a checkpoint was just saved"
        return generation

    def save_emergency(self) -> None:
        """Save an emergency checkpoint of the last completed step, unless the error interrupted an update."""
        trainer = self._trainer
        if not trainer.is_between_steps:
            log.error(
                "✗ The error interrupted a parameter update, so it was not saved; "
                "+resume=true resumes from the last checkpoint"
            )
            return
        try:
            with self._guard.saving():
                self._writer.wait()
                files, metadata = Snapshot().take(self._content(trainer.state.state_dict()))
                generation = self._store.commit(files, metadata, emergency=True)
        except Exception as error:  # an error here must not hide the original one
            log.error("✗ No emergency checkpoint: %s", error)
            return
        log.error(
            "✗ Emergency checkpoint of %s, step %d: %s\n  +resume=true resumes from the checkpoint before it, "
            "name=… resume_from=%s from this one",
            trainer.position,
            trainer.progress.step,
            generation.path,
            generation.path,
        )

    def _content(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the files and metadata of a checkpoint of this state."""
        trainer, metadata = self._trainer, dict(self._metadata())
        about = {
            "classes": class_paths(trainer.state.parts),
            "settings": {"optimizer": trainer.optimizer_block, "batch_size": trainer.loop.batch_size},
        }
        return self._files.of(trainer.estimator, state, about, metadata), {"nodes": self._nodes, "run": metadata}


def _dataset_change(trainer: Trainer) -> str:
    """Describe the effects of the changed simulations in one line."""
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
