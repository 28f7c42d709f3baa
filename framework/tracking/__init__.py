"""Trackers, which receive metrics, and the progress display in the terminal."""

from framework.tracking.console import Console
from framework.tracking.jsonl import JsonlTracker
from framework.tracking.tensorboard import TensorBoardTracker
from framework.tracking.tracker import Tracker
from framework.tracking.wandb import WandbTracker

__all__ = ["Console", "JsonlTracker", "TensorBoardTracker", "Tracker", "WandbTracker"]
