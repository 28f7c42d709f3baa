"""The training loop of one node."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from framework.checkpoint import RandomState, Snapshot, load_all, state_of
from framework.config.schema import LoopConfig
from framework.config.target import build, locate
from framework.errors import TrainingError
from framework.estimators import Estimator
from framework.runtime import Guard, Ranks, Save, StopReason
from framework.training.data import TrainingData
from framework.training.parallel import lead_buffers, part_of_batches, shared_loss
from framework.training.progress import Progress

log = logging.getLogger(__name__)

_ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW)  # whatever the shape of a weight, the same for its entries
_VALIDATION_ROWS = 8192  # at once: forward passes alone are cheap in memory


class Trainer:
    """Minimises the mean negative log-density of theta given its evidence over the training rows.

    An epoch visits the rows in an order fixed by (seed, node, epoch), then measures the held-out
    rows; the weights of the best epoch are kept, and training ends after `num_epochs` or
    `early_stop_patience` epochs without a better one. All state is in `parts` and `best`, and of several
    `ranks`, which share each batch, in `of_ranks`.
    """

    def __init__(
        self,
        estimator: Estimator,
        data: TrainingData,
        loop: LoopConfig,
        optimizer: Mapping[str, Any],
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.estimator, self.data, self.loop, self.seed, self.ranks = estimator, data, loop, seed, ranks or Ranks()
        self.node = estimator.spec.node
        self.optimizer_block = optimizer
        block = {name: value for name, value in optimizer.items() if name != "scheduler"}
        first_rows = part_of_batches([data.train_rows[: loop.batch_size]], self.ranks)[0][0]
        if loop.compile and locate(block, "optimizer") in _ELEMENTWISE:
            estimator.join_weights(*data.take(first_rows))
        self.parameters = estimator.trainable()
        self.optimizer: torch.optim.Optimizer = build(block, "optimizer", params=self.parameters)
        self.scheduler = build(optimizer["scheduler"], "optimizer.scheduler", optimizer=self.optimizer)
        self.progress = Progress()
        self.progress.begin_dataset(len(data.train_rows), len(data.val_rows))
        self.is_between_steps = True  # or else an update is half done, and nothing of it may be saved
        self._loss_sum = torch.zeros((), device=data.device)  # of the epoch under way; not waited for in each step
        self._started = time.perf_counter()
        self.parts = {
            "estimator": estimator,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "progress": self.progress,
            "rng": RandomState(),  # last: restoring the others may draw from it
        }
        self.of_ranks: list[dict[str, Any]] = []  # what each of several ranks has of its own: collected, to be saved
        self.best = {name: value.detach().clone() for name, value in estimator.state_dict().items()}
        self._measure_offsets()
        if loop.compile:
            log.info("compiling %s's training step; what is compiled is kept for the next attempt", self.node)
            estimator.compile(*data.take(first_rows))
        self._loss = shared_loss(estimator, self.parameters, self.ranks, data.device)
        self._weight = 1.0

    def fit(
        self,
        guard: Guard,
        save: Callable[[], None],
        on_epoch: Callable[[dict[str, float]], None],
        prepare_save: Callable[[], None] | None = None,
    ) -> StopReason | None:
        """Train until done, then return None; or until the guard says stop, and return why.

        `save` is called when the guard asks for it, always between two steps; `prepare_save` once after
        the first step, when an optimizer has the state that later saves will find.
        """
        self._started = time.perf_counter() - self.progress.train_seconds
        while not self.is_done():
            rows, self._weight = part_of_batches(self._batch_rows(), self.ranks)
            self.estimator.train()
            guard.begin_epoch(len(rows) - self.progress.batch)
            for u, evidence in self.data.batches(rows[self.progress.batch :]):
                if asked := self.ranks.agree(guard.poll()):
                    if asked is not Save.NOW:
                        return asked
                    save()
                self._step(u, evidence)
                if prepare_save:
                    prepare_save()
                    prepare_save = None
            self._end_epoch(self.ranks.sum(self._weight * self._loss_sum.item()) / self.ranks.size / len(rows))
            on_epoch(self.progress.history[-1])
        self.progress.finished = True
        return None

    def is_done(self) -> bool:
        """Tell whether the last epoch is reached or the loss has stopped falling."""
        return self.progress.epoch >= self.loop.num_epochs or self.has_stopped_early()

    def has_stopped_early(self) -> bool:
        """Tell whether the loss has not fallen for `early_stop_patience` epochs, with epochs left."""
        patience, progress = self.loop.early_stop_patience, self.progress
        is_patient = patience is None or progress.epochs_without_improvement < patience
        return not is_patient and progress.epoch < self.loop.num_epochs

    def validate(self, ranks: Ranks | None = None) -> float:
        """Return the mean negative log-density of the held-out rows' theta; `ranks` share the work."""
        self.estimator.eval()
        held_out, total = self.data.val_rows, torch.zeros((), device=self.data.device)
        if ranks:
            lead_buffers(self.estimator, ranks, self.data.device)
            held_out = held_out[ranks.part(len(held_out))]
        with torch.no_grad():
            for rows in held_out.split(_VALIDATION_ROWS):
                if not len(rows):  # where there are fewer than ranks
                    break
                total -= self.estimator.latent_log_prob(*self.data.take(rows)).sum()
        sum_of_all = ranks.sum(total.item()) if ranks else total.item()
        return sum_of_all / len(self.data.val_rows) + self._val_offset

    def load_state(self, states: Mapping[str, Any], best: Mapping[str, Tensor]) -> None:
        """Go back to the state of a checkpoint."""
        load_all(self.parts, states)
        self._loss_sum.fill_(self.progress.loss_sum)
        for name, value in best.items():
            self.best[name].copy_(value)
        self._measure_offsets()

    def join(self) -> None:
        """Have all ranks go on from rank 0's state, each with what is its own where as many have saved it."""
        if self.ranks.size > 1:
            mine = RandomState().state_dict()  # a stream of this rank's own, unless the checkpoint has one
            states, self.of_ranks = self.ranks.share(self._state_to_share())
            if self.ranks.rank:
                load_all(self.parts, {**states, "rng": mine})
                self._measure_offsets()
        if len(self.of_ranks) == self.ranks.size:
            own = self.of_ranks[self.ranks.rank]
            self.parts["rng"].load_state_dict(own["rng"])
            self.progress.loss_sum = own["loss_sum"]
        elif self.of_ranks:
            self.progress.loss_sum = sum(r["weight"] * r["loss_sum"] for r in self.of_ranks) / len(self.of_ranks)
        self._loss_sum.fill_(self.progress.loss_sum if self.progress.batch else 0.0)
        self.of_ranks = []

    def collect(self) -> None:
        """Bring what each of several ranks has of its own to rank 0, before a save."""
        if self.ranks.size > 1:
            own = {"rng": RandomState().state_dict(), "loss_sum": self._loss_sum.item(), "weight": self._weight}
            self.of_ranks = self.ranks.gather(own)

    def settle(self) -> None:
        """Bring to `progress` what is only counted on the side while steps are taken."""
        self.progress.loss_sum = self._loss_sum.item()
        self.progress.train_seconds = time.perf_counter() - self._started

    def begin_dataset(self) -> None:
        """Go on with other data than those of the state: early stopping and the epoch under way start again.

        The best weights so far are measured on the held-out rows of now, so that later ones compare with them.
        """
        self.progress.begin_dataset(len(self.data.train_rows), len(self.data.val_rows))
        self._loss_sum.zero_()
        if self.progress.best_epoch:
            now = {name: value.clone() for name, value in self.estimator.state_dict().items()}
            self.estimator.load_state_dict(self.best)
            self.progress.best_loss = self.validate()
            self.estimator.load_state_dict(now)

    def _measure_offsets(self) -> None:
        """Learn what turns the loss, which is measured in z, into that of theta."""
        scale = self.estimator.log_scale().item()
        log_abs_det = self.estimator.prior.log_abs_det(self.data.u)
        self._train_offset = log_abs_det[self.data.train_rows].mean().item() - scale
        self._val_offset = log_abs_det[self.data.val_rows].mean().item() - scale

    def _state_to_share(self) -> Any:
        """Return the state of all parts in main memory, and what each rank has of its own; nothing but on rank 0."""
        if self.ranks.rank:
            return None
        snapshot = Snapshot()
        states = snapshot.take(state_of(self.parts))
        snapshot.wait()
        return states, self.of_ranks

    def _batch_rows(self) -> list[Tensor]:
        return self.data.batch_rows(self.seed, self.node, self.progress.epoch, self.loop.batch_size)

    def _step(self, u: Tensor, evidence: dict[str, Tensor]) -> None:
        """Take one optimizer step, and count it; its loss is added up without waiting for it."""
        loss = self._loss(u, evidence)
        for parameter in self.parameters:
            parameter.grad = None  # what zero_grad() does, in a quarter of its time
        (loss if self._weight == 1.0 else self._weight * loss).backward()
        if self.loop.clip_grad_norm is not None:
            _clip_gradients(self.parameters, self.loop.clip_grad_norm)
        self.is_between_steps = False
        self.optimizer.step()
        self._loss_sum += loss.detach()
        self.progress.batch += 1
        self.progress.step += 1
        self.is_between_steps = True

    def _end_epoch(self, mean_loss: float) -> None:
        train_loss, val_loss = mean_loss + self._train_offset, self.validate(self.ranks)
        lr = self.optimizer.param_groups[0]["lr"]
        self.is_between_steps = False
        self._loss_sum.zero_()
        if self.progress.record(train_loss, val_loss, lr):
            for name, value in self.estimator.state_dict().items():
                self.best[name].copy_(value)
        elif not torch.isfinite(torch.tensor([train_loss, val_loss])).all():
            raise TrainingError(
                f"{self.node}: the loss became {train_loss} (validation {val_loss}) in epoch {self.progress.epoch}; "
                f"try a smaller optimizer.lr (now {lr:g}) or loop.clip_grad_norm, and look at the simulations"
            )
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(val_loss)
        else:
            self.scheduler.step()
        self.is_between_steps = True


def _clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Do as `torch.nn.utils.clip_grad_norm_` does, in half the time where all parameters are on one device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if norm.is_cpu and norm <= max_norm:  # on other devices, to look at the norm is to wait for it
        return
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
