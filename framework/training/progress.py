"""The progress of a node's training."""

import time
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from framework.training.expected import (
    Check,
    check_entries,
    has_entries,
    is_count,
    is_duration,
    is_flag,
    is_list,
    is_mapping,
    is_number,
)


def _no_loss() -> Tensor:
    return torch.zeros(())


@dataclass
class Progress:
    """Counters of completed work, early stopping and the history of epochs, as a Stateful of plain values."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches completed in the current epoch
    step: int = 0  # optimizer steps completed
    best_loss: float = float("inf")
    best_epoch: int = 0
    finished: bool = False
    train_seconds: float = 0.0  # of earlier attempts, and of this one up to the last `state_dict()`
    loss_sum: Tensor = field(default_factory=_no_loss)  # of the current epoch; reading it waits for the device
    history: list[dict[str, float]] = field(default_factory=list)
    datasets: list[dict[str, int]] = field(default_factory=list)
    """For each change of the simulations: the number of epochs completed before it, "epoch", and the numbers of
    simulations for "training" and "validation"."""

    def __post_init__(self) -> None:
        self._since: float | None = None  # the time up to which `train_seconds` counts, once the clock is started

    def start_clock(self) -> None:
        """Start to count training time."""
        self._since = time.perf_counter()

    def begin_dataset(self, num_training: int, num_validation: int) -> None:
        """Switch to other simulations: the current epoch and early stopping start again."""
        self._begin_epoch()
        self.finished = False
        self.datasets.append({"epoch": self.epoch, "training": num_training, "validation": num_validation})

    @property
    def epochs_without_improvement(self) -> int:
        """The number of epochs since the best one, or since the simulations changed."""
        return self.epoch - max(self.best_epoch, self.datasets[-1]["epoch"] if self.datasets else 0)

    def record(self, train_loss: float, val_loss: float, lr: float) -> bool:
        """Complete the epoch; return whether its validation loss is the best so far."""
        self.epoch += 1
        self._begin_epoch()
        is_best = val_loss < self.best_loss
        if is_best:
            self.best_loss, self.best_epoch = val_loss, self.epoch
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "train_loss": train_loss,
                "val_loss": val_loss,
                "best_loss": self.best_loss,
                "lr": lr,
            }
        )
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Return the current values of all fields."""
        if self._since is not None:
            before, self._since = self._since, time.perf_counter()
            self.train_seconds += self._since - before
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"loss_sum": self.loss_sum.item()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set all fields; raises `CheckpointError` unless this is a state of this class."""
        check_progress(state_dict)
        values = dict(state_dict)
        self.loss_sum.fill_(values.pop("loss_sum"))
        for name, value in values.items():
            setattr(self, name, value)

    def _begin_epoch(self) -> None:
        self.batch = 0
        self.loss_sum.zero_()


def check_progress(state: Any) -> None:
    """Raise `CheckpointError` unless this could be the state of a `Progress`."""
    check_entries(state, _CHECKS, key="progress")


def _is_epoch(value: Any) -> bool:
    numbers = dict.fromkeys(("epoch", "step", "train_loss", "val_loss", "lr"), is_number)
    return is_mapping(value, is_number) and has_entries(value, **numbers)


def _is_dataset(value: Any) -> bool:
    return is_mapping(value, is_count) and value.keys() == {"epoch", "training", "validation"}


_COUNT = (is_count, "a whole number of at least 0")
_CHECKS: dict[str, Check] = {
    "epoch": _COUNT,
    "batch": _COUNT,
    "step": _COUNT,
    "best_loss": (is_number, "a number"),
    "best_epoch": _COUNT,
    "finished": (is_flag, "true or false"),
    "train_seconds": (is_duration, "a number of seconds"),
    "loss_sum": (is_number, "a number"),
    "history": (lambda value: is_list(value, _is_epoch), "a list of epochs, each with its numbers"),
    "datasets": (
        lambda value: is_list(value, _is_dataset) and len(value) > 0 and value[0]["epoch"] == 0,
        "a list of the numbers of simulations, starting at epoch 0",
    ),
}
