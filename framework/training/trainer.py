"""The training loop of one node."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from framework.compat.torch import scale, total_norm
from framework.config.schema import LoopConfig
from framework.config.target import build, locate
from framework.errors import TrainingError
from framework.estimators import Estimator
from framework.runtime import DistributedContext, Guard, Save, StopReason
from framework.training.data import Batch, TrainingData
from framework.training.data_parallel import BatchSlice, broadcast_buffers, distributed_loss
from framework.training.state import TrainState, Weights

log = logging.getLogger(__name__)

_ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW)  # these update each entry of a weight independently of its shape
_VALIDATION_ROWS = 8192  # per forward pass, which needs little memory without gradients


class Trainer:
    """Minimise the mean negative log-density of theta given its evidence over the training rows.

    An epoch visits the rows in an order fixed by (seed, node, epoch), then evaluates the held-out
    rows; the weights of the best epoch are kept, and training ends after `num_epochs`, or after
    `early_stop_patience` epochs without improvement. `state` holds everything that checkpoints
    save. The processes of `distributed` share each batch.
    """

    def __init__(
        self,
        estimator: Estimator,
        data: TrainingData,
        loop: LoopConfig,
        optimizer: Mapping[str, Any],
        seed: int,
        distributed: DistributedContext | None = None,
    ) -> None:
        self.estimator = estimator
        self.data = data
        self.loop = loop
        self.seed = seed
        self.distributed = distributed or DistributedContext()
        self.node = estimator.spec.node
        self.optimizer_block = optimizer
        block = {name: value for name, value in optimizer.items() if name != "scheduler"}
        self._batch_slice = BatchSlice.of_batch(min(loop.batch_size, len(data.train_rows)), self.distributed)
        first_rows = self._batch_slice.part_of([data.train_rows[: loop.batch_size]])[0]
        if loop.compile and locate(block, "optimizer") in _ELEMENTWISE:
            estimator.join_weights(*data.take(first_rows))
        self.parameters = estimator.trainable()
        self.optimizer: torch.optim.Optimizer = build(block, "optimizer", params=self.parameters)
        self.scheduler = build(optimizer["scheduler"], "optimizer.scheduler", optimizer=self.optimizer)
        self.state = TrainState(estimator, self.optimizer, self.scheduler, self._batch_slice, data.device)
        self.progress = self.state.progress
        self.progress.begin_dataset(len(data.train_rows), len(data.val_rows))
        self.is_between_steps = True  # False during a parameter update, when the state must not be saved
        self._measure_offsets()
        if loop.compile:
            log.info("compiling %s's training step; compiled code is kept for the next attempt", self.node)
            estimator.compile(*data.take(first_rows))
        self._loss = distributed_loss(estimator, self.parameters, self.distributed, data.device)

    def fit(
        self,
        guard: Guard,
        save: Callable[[], object],
        on_epoch: Callable[[dict[str, float]], None],
        prepare_save: Callable[[], None] | None = None,
    ) -> StopReason | None:
        """Train until done, then return None, or until the guard requests a stop, then return the reason.

        `save` is called when the guard requests it, always between two steps; `prepare_save` once after
        the first step, when the optimizer's state is complete.
        """
        self.progress.start_clock()
        while not self.is_done():
            for u, evidence in self._begin_epoch(guard):
                if asked := self.distributed.all_reduce_stop(guard.poll()):
                    if asked is not Save.NOW:
                        return asked
                    save()
                self._step(u, evidence)
                if prepare_save:
                    prepare_save()
                    prepare_save = None
            self._end_epoch()
            on_epoch(self.progress.history[-1])
        self.progress.finished = True
        return None

    def is_done(self) -> bool:
        """Return whether the last epoch is completed or training has stopped early."""
        return self.progress.epoch >= self.loop.num_epochs or self.has_stopped_early()

    def has_stopped_early(self) -> bool:
        """Return whether the loss has not improved for `early_stop_patience` epochs, with epochs left."""
        patience, progress = self.loop.early_stop_patience, self.progress
        is_patient = patience is None or progress.epochs_without_improvement < patience
        return not is_patient and progress.epoch < self.loop.num_epochs

    @property
    def position(self) -> str:
        """The current epoch, or the last one if training is done, counted from 1."""
        return f"epoch {self.progress.epoch + (self.progress.batch > 0)}/{self.loop.num_epochs}"

    def validate(self, distributed: DistributedContext | None = None) -> float:
        """Return the mean negative log-density of theta over the held-out rows, divided among `distributed`."""
        self.estimator.eval()
        held_out, total = self.data.val_rows, torch.zeros((), device=self.data.device)
        if distributed:
            broadcast_buffers(self.estimator, distributed, self.data.device)
            held_out = held_out[distributed.local_slice(len(held_out))]
        with torch.no_grad():
            for rows in held_out.split(_VALIDATION_ROWS):
                if not len(rows):  # there are fewer rows than ranks
                    break
                total -= self.estimator.latent_log_prob(*self.data.take(rows)).sum()
        sum_of_all = distributed.all_reduce_sum(total.item()) if distributed else total.item()
        return sum_of_all / len(self.data.val_rows) + self._val_offset

    def load_state(self, states: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.state.load_state_dict(states)
        self._measure_offsets()

    def join(self) -> None:
        """Broadcast rank 0's state to all ranks."""
        self.state.join()
        if self.distributed.rank:
            self._measure_offsets()

    def begin_dataset(self) -> None:
        """Continue with data other than the state's: early stopping and the current epoch start again.

        The best weights so far are evaluated on the new held-out rows, so that later weights can be compared.
        """
        self.progress.begin_dataset(len(self.data.train_rows), len(self.data.val_rows))
        if self.progress.best_epoch:
            now = Weights(self.estimator)
            self.estimator.load_state_dict(self.state.best.state_dict())
            self.progress.best_loss = self.validate()
            self.estimator.load_state_dict(now.state_dict())

    def _measure_offsets(self) -> None:
        """Compute the offsets that convert the loss of z into the loss of theta."""
        scale = self.estimator.log_scale().item()
        log_abs_det = self.estimator.prior.log_abs_det(self.data.u)
        self._train_offset = log_abs_det[self.data.train_rows].mean().item() - scale
        self._val_offset = log_abs_det[self.data.val_rows].mean().item() - scale

    def _begin_epoch(self, guard: Guard) -> Iterator[Batch]:
        """Return this rank's part of each remaining batch of the epoch."""
        batches = self.data.batch_rows(self.seed, self.node, self.progress.epoch, self.loop.batch_size)
        rows = self._batch_slice.part_of(batches[self.progress.batch :])
        self.estimator.train()
        guard.begin_epoch(len(rows))
        return self.data.batches(rows)

    def _step(self, u: Tensor, evidence: dict[str, Tensor]) -> None:
        """Take one optimizer step and count it; its loss is accumulated without waiting for the device."""
        loss = self._loss(u, evidence)
        for parameter in self.parameters:
            parameter.grad = None  # the same as zero_grad(), but four times faster
        self._batch_slice.weighted(loss).backward()
        if self.loop.clip_grad_norm is not None:
            _clip_gradients(self.parameters, self.loop.clip_grad_norm)
        self.is_between_steps = False
        self.optimizer.step()
        self.progress.loss_sum += loss.detach()
        self.progress.batch += 1
        self.progress.step += 1
        self.is_between_steps = True

    def _end_epoch(self) -> None:
        num_batches = self.data.num_batches(self.loop.batch_size)
        mean_loss = self._batch_slice.mean(self.progress.loss_sum.item()) / num_batches
        train_loss, val_loss = mean_loss + self._train_offset, self.validate(self.distributed)
        lr = self.optimizer.param_groups[0]["lr"]
        self.is_between_steps = False
        if self.progress.record(train_loss, val_loss, lr):
            self.state.best.load_state_dict(self.estimator.state_dict())
        elif not torch.isfinite(torch.tensor([train_loss, val_loss])).all():
            raise TrainingError(
                f"{self.node}: the loss became {train_loss} (validation {val_loss}) in epoch {self.progress.epoch}; "
                f"try a smaller optimizer.lr (now {lr:g}) or loop.clip_grad_norm, and check the simulations"
            )
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)
        else:
            self.scheduler.step()
        self.is_between_steps = True


def _clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Clip like `torch.nn.utils.clip_grad_norm_`, twice as fast if all parameters are on one device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = total_norm(gradients)
    if norm.is_cpu and norm <= max_norm:  # on other devices, reading the norm would wait for it
        return
    scale(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
