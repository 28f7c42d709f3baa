"""State that survives a restart. Knows nothing of simulation-based inference."""

from framework.checkpoint.rng import RandomState
from framework.checkpoint.stateful import Stateful, load_all
from framework.checkpoint.store import CheckpointStore, Generation

__all__ = ["CheckpointStore", "Generation", "RandomState", "Stateful", "load_all"]
