"""A small node to train in tests: theta of two parameters, x = theta + noise."""

from datetime import datetime

import numpy as np
import torch

from framework.checkpoint import CheckpointStore
from framework.config.schema import LoopConfig
from framework.estimators import Estimator, EstimatorSpec
from framework.rng import seed_sequence, seeded
from framework.runtime import Guard, StopReason
from framework.training import Trainer, TrainingData
from framework.training.checkpointer import Checkpointer
from framework.training.data import held_out_rows
from framework.training.node_files import NodeFiles

NETWORKS = {
    "gaussian": {"_target_": "framework.estimators.Gaussian", "hidden_dim": 16, "num_layers": 1},
    "nsf": {"_target_": "framework.estimators.Flow", "family": "NSF", "hidden_dim": 8, "num_transforms": 2},
}
PRIOR = {"_target_": "framework.priors.Normal", "mean": [0.0, 0.0], "std": [1.0, 1.0]}
BOX = {"_target_": "framework.priors.Uniform", "low": [-6.0, -6.0], "high": [6.0, 6.0]}
ADAM = {
    "_target_": "torch.optim.Adam",
    "lr": 1e-3,
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 1},
}
DROPOUT = {"_target_": "tests.support.toy_training.NoisyEmbedding"}


class NoisyEmbedding(torch.nn.Module):
    """Draws from the global generator in training, as dropout does."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, x):
        return self.dropout(x)


class StopAfter(Guard):
    """Asks to stop at the n-th poll, as if the time were over."""

    def __init__(self, polls):
        super().__init__()
        self.polls = polls

    def poll(self):
        self.polls -= 1
        return StopReason.OUT_OF_TIME if self.polls < 0 else None


def make_trainer(network="gaussian", num_rows=500, embedding=None, optimizer=ADAM, seed=0, prior=PRIOR, **loop):
    with seeded(seed_sequence(seed, "toy")):
        theta = torch.randn(num_rows, 2)
        x = theta + 0.5 * torch.randn(num_rows, 2)
    with seeded(seed_sequence(seed, "init")):
        estimator = Estimator(EstimatorSpec("z", NETWORKS[network], embedding, 2, {"x": (2,)}, {"z": prior}))
    u, evidence = estimator.prepare(theta, {"x": x})
    data = TrainingData.split(u, evidence, held_out_rows(torch.arange(num_rows), 0.1, seed, "z"), torch.device("cpu"))
    estimator.fit_standardisation(u, evidence)
    settings = LoopConfig(**{"num_epochs": 5, "batch_size": 50, **loop})
    return Trainer(estimator, data, settings, optimizer, seed)


def checkpointer(trainer, root, first_id=0, metadata=lambda: {"saved_at": "noon"}):
    """What saves the trainer below `root`; its simulations have consecutive ids."""
    ids = np.arange(first_id, first_id + len(trainer.data.u))
    files = NodeFiles.at_start(trainer.estimator, ids, trainer.data)
    return Checkpointer(trainer, files, CheckpointStore(root), Guard(), metadata)


def save(trainer, root, first_id=0):
    """Commit what the trainer's training has come to, and return the checkpoint."""
    with checkpointer(trainer, root, first_id) as saving:
        return saving.save_last(trainer.state.gather(), None)


def restore(trainer, generation, first_id=0):
    """Bring a new trainer to where the checkpoint is."""
    checkpointer(trainer, generation.path.parent, first_id).restore(generation)


class DatedAdam(torch.optim.Adam):
    """An optimizer with a state that no checkpoint can hold."""

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            state["when"] = datetime.now()


class FailingAdam(torch.optim.Adam):
    """An optimizer with a bug."""

    def step(self, closure=None):
        raise ZeroDivisionError


class FailingSchedule(torch.optim.lr_scheduler.ConstantLR):
    """A schedule with a bug: its first step, which torch takes for it, is the only one that works."""

    def step(self, epoch=None):
        if self.last_epoch >= 0:
            raise ZeroDivisionError
        super().step()
