"""State that survives a restart, for any torch loop. Knows nothing of simulation-based inference.

    parts = {"model": model, "optimizer": optimizer, "rng": RandomState()}  # loaded in this order
    store, start = CheckpointStore("checkpoints"), 0
    if newest := store.latest():  # the newest that is whole
        load_all(parts, newest.load("state.pth"))
        start = newest.manifest["step"]
    with CheckpointWriter(store) as writer:  # leaving it waits until the last save is durable
        for step in range(start, num_steps):
            train_one_step()
            if (step + 1) % 1000 == 0:  # costs a copy; a thread writes, and a failure is a warning
                writer.save({"state.pth": state_of(parts)}, {"step": step + 1})

With `framework.runtime.Guard`, which tells when to save and when to stop, `CheckpointWriter(store, guard)`.
`store.commit` does the same at once, and raises `SaveError`. Files are what torch.save and json write, read
back with `weights_only=True`: a checkpoint cannot run code. What would not come back as it was, in type and
bits, is refused by the first save, or before it by `writer.prepare`, with a `StateError` that names its path.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.checkpoint.manifest import Generation
    from framework.checkpoint.random_state import RandomState
    from framework.checkpoint.save_errors import SaveError, StateError
    from framework.checkpoint.snapshot import Snapshot
    from framework.checkpoint.stateful import Stateful, check_classes, class_paths, load_all, state_of
    from framework.checkpoint.store import CheckpointStore
    from framework.checkpoint.writer import CheckpointWriter

__all__ = [
    "CheckpointStore",
    "CheckpointWriter",
    "Generation",
    "RandomState",
    "SaveError",
    "Snapshot",
    "StateError",
    "Stateful",
    "check_classes",
    "class_paths",
    "load_all",
    "state_of",
]

_MODULE_OF = {
    **dict.fromkeys(("SaveError", "StateError"), "save_errors"),
    **dict.fromkeys(("Stateful", "check_classes", "class_paths", "load_all", "state_of"), "stateful"),
    "Generation": "manifest",
    "RandomState": "random_state",
    "Snapshot": "snapshot",
    "CheckpointStore": "store",
    "CheckpointWriter": "writer",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:  # on first use: what only reads manifests and JSON does without torch
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
