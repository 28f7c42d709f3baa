"""How far a node's training has come."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Progress:
    """Counters of completed work, early stopping and the history of epochs; a Stateful of plain values."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches completed in the epoch under way
    step: int = 0  # optimizer steps completed
    best_loss: float = float("inf")
    best_epoch: int = 0
    finished: bool = False
    train_seconds: float = 0.0
    loss_sum: float = 0.0  # of the epoch under way
    history: list[dict[str, float]] = field(default_factory=list)
    datasets: list[dict[str, int]] = field(default_factory=list)
    """What was trained on: for each change of the simulations the epochs completed before it, "epoch", and the numbers
    of simulations in "training" and "validation"."""

    def begin_dataset(self, num_training: int, num_validation: int) -> None:
        """Train on other simulations from here on: the epoch under way and early stopping start again."""
        self.batch, self.loss_sum, self.finished = 0, 0.0, False
        self.datasets.append({"epoch": self.epoch, "training": num_training, "validation": num_validation})

    @property
    def epochs_without_improvement(self) -> int:
        """The epochs completed since the best one, or since the simulations have changed."""
        return self.epoch - max(self.best_epoch, self.datasets[-1]["epoch"] if self.datasets else 0)

    def record(self, train_loss: float, val_loss: float, lr: float) -> bool:
        """Close the epoch; return whether its validation loss is the best so far."""
        self.epoch += 1
        self.batch, self.loss_sum = 0, 0.0
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
        """Return all fields."""
        return asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set all fields."""
        assert state_dict.keys() == self.state_dict().keys()
        for name, value in state_dict.items():
            setattr(self, name, value)
