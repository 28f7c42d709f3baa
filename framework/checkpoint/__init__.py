"""State that survives a restart. Knows nothing of simulation-based inference."""

from framework.checkpoint.errors import SaveError
from framework.checkpoint.manifest import Generation
from framework.checkpoint.rng import RandomState
from framework.checkpoint.stateful import Stateful, load_all
from framework.checkpoint.store import CheckpointStore

__all__ = ["CheckpointStore", "Generation", "RandomState", "SaveError", "Stateful", "load_all"]
