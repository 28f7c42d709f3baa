"""Where metrics go, and what the terminal shows."""

from framework.tracking.console import Console
from framework.tracking.jsonl import JsonlTracker
from framework.tracking.tracker import Tracker

__all__ = ["Console", "JsonlTracker", "Tracker"]
