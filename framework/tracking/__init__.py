"""Where metrics go, and what the terminal shows."""

from framework.tracking.console import Console
from framework.tracking.jsonl import JsonlTracker
from framework.tracking.tensorboard import TensorBoardTracker
from framework.tracking.tracker import Tracker
from framework.tracking.wandb import WandbTracker

__all__ = ["Console", "JsonlTracker", "TensorBoardTracker", "Tracker", "WandbTracker"]
