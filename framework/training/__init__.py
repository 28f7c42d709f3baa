"""Training one node's estimator on simulations."""

from framework.training.data import TrainingData
from framework.training.progress import Progress
from framework.training.trainer import Trainer

__all__ = ["Progress", "Trainer", "TrainingData"]
