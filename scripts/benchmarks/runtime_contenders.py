"""The two training loops that runtime.py compares; both end with the same weights, bit for bit."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Self, cast

import torch
from torch import Tensor, nn

from framework.config.schema import LoopConfig
from framework.estimators import Estimator
from framework.runtime import BudgetReader, Guard, Policy
from framework.tracking import Console, JsonlTracker
from framework.training import Trainer, TrainingData
from framework.training.data import held_out_rows

NUM_SIMULATIONS, BATCH_SIZE, VALIDATION_FRACTION = 10_000, 200, 0.1
NUM_EPOCHS = 40  # in each turn
NUM_STEPS = NUM_EPOCHS * int((1 - VALIDATION_FRACTION) * NUM_SIMULATIONS) // BATCH_SIZE
LR, MAX_NORM = 5e-4, 5.0


class Small(nn.Module):
    """A network that is quick to train, with what Trainer asks of an estimator."""

    spec = SimpleNamespace(node="z")
    prior = SimpleNamespace(log_abs_det=lambda u: torch.zeros(len(u)))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def trainable(self) -> list[Tensor]:
        return list(self.parameters())

    def log_scale(self) -> Tensor:
        return torch.zeros(())

    def latent_log_prob(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        return -(self.network(evidence["x"]) - u).square().sum(1)

    def loss(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        return -self.latent_log_prob(u, evidence).mean()


def make_data() -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(NUM_SIMULATIONS, 2, generator=generator)
    x = u + 0.1 * torch.randn(NUM_SIMULATIONS, 2, generator=generator)
    held_out = held_out_rows(torch.arange(NUM_SIMULATIONS), VALIDATION_FRACTION, 0, "z")
    return TrainingData.split(u, {"x": x}, held_out, torch.device("cpu"))


class Ours:
    """All that a run does around a step."""

    def __init__(self, run_dir: Path) -> None:
        scheduler = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0}
        optimizer = {"_target_": "torch.optim.Adam", "lr": LR, "fused": True, "scheduler": scheduler}
        loop = LoopConfig(num_epochs=0, early_stop_patience=None, batch_size=BATCH_SIZE, clip_grad_norm=MAX_NORM)
        self.trainer = Trainer(cast(Estimator, Small()), make_data(), loop, optimizer, 0)
        self.tracker, self.console = JsonlTracker(run_dir), Console()
        self.guard = Guard(Policy(periodic_checkpoint_every=1800.0))

    def __enter__(self) -> Self:
        self.guard.__enter__()
        self.guard.limit(BudgetReader("24h"))
        return self

    def __exit__(self, *error: object) -> None:
        self.guard.__exit__(None, None, None)
        self.tracker.close()

    def train(self) -> None:
        loop, progress = self.trainer.loop, self.trainer.progress

        def on_epoch(record: dict[str, float]) -> None:
            self.tracker.log({"node": "z", **record})
            self.console.epoch(record, progress.best_loss, progress.best_epoch, last=False)

        loop.num_epochs += NUM_EPOCHS
        with self.console.phase("training z", loop.num_epochs, progress.epoch):
            self.trainer.fit(self.guard, lambda: None, on_epoch)


class Bare:
    """The loop that one writes by hand, which keeps nothing and cannot be interrupted."""

    def __init__(self) -> None:
        self.model, self.data, self.epoch = Small(), make_data(), 0
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=LR, fused=True)

    def train(self) -> None:
        u, x = self.data.u, self.data.evidence["x"]
        for _ in range(NUM_EPOCHS):
            self.model.train()
            for rows in self.data.batch_rows(0, "z", self.epoch, BATCH_SIZE):
                loss = (self.model.network(x[rows]) - u[rows]).square().sum(1).mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
                self.optimizer.step()
            self.epoch += 1
            self.model.eval()
            with torch.no_grad():
                rows = self.data.val_rows
                (self.model.network(x[rows]) - u[rows]).square().sum(1).mean().item()
