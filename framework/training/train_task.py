"""The task that rank 0 broadcasts so that every process can train one node."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from framework.config.parse import NodeSettings
from framework.estimators import Estimator, EstimatorSpec
from framework.runtime import DistributedContext, Policy
from framework.training.data import TrainingData, held_out_rows
from framework.training.node_files import NodeFiles
from framework.training.trainer import Trainer


@dataclass(frozen=True)
class TrainTask:
    """A node, its settings and its simulations {node: (num_simulations, *event_shape)}, with their ids as "index"."""

    spec: EstimatorSpec
    settings: NodeSettings
    seed: int
    device: str
    policy: Policy
    simulations: Mapping[str, np.ndarray]
    compiled_dir: Path | None = None  # cache of compiled code, used on machines where it exists
    trained_on: Mapping[str, torch.Tensor] | None = None  # ids of "training" and "validation" in the checkpoint

    def make_trainer(self, device: torch.device, distributed: DistributedContext) -> tuple[Trainer, NodeFiles]:
        """Build the trainer with its estimator and data, and the constant files of its checkpoints."""
        estimator = Estimator(self.spec)
        settings = self.settings
        node = self.spec.node
        theta = torch.from_numpy(self.simulations[node]).flatten(1)
        evidence = {name: torch.from_numpy(self.simulations[name]) for name in self.spec.evidence_shapes}
        u, prepared = estimator.prepare(theta, evidence)
        ids, fraction = torch.from_numpy(self.simulations["index"]), settings.loop.validation_fraction
        val_rows = held_out_rows(ids, fraction, self.seed, node, self.trained_on)
        data = TrainingData.split(u, prepared, val_rows, device)
        rows = data.train_rows.cpu()
        estimator.fit_standardisation(u[rows], {name: value[rows] for name, value in prepared.items()})
        files = NodeFiles.at_start(estimator, self.simulations["index"], data)
        return Trainer(estimator.to(device), data, settings.loop, settings.optimizer, self.seed, distributed), files
