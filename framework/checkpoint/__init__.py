"""State that survives a restart, for any torch loop. Independent of simulation-based inference.

    parts = {"model": model, "optimizer": optimizer, "rng": RandomState()}  # loaded in this order
    store, start = CheckpointStore("checkpoints"), 0
    if newest := store.latest():  # the newest intact checkpoint
        load_all(parts, newest.load("state.pth"))
        start = newest.manifest["step"]
    with CheckpointWriter(store) as writer:  # on exit, waits until the last save is durable
        for step in range(start, num_steps):
            train_one_step()
            if (step + 1) % 1000 == 0:  # costs a copy; a thread writes; a failure is a warning
                writer.save({"state.pth": state_of(parts)}, {"step": step + 1})

With `framework.runtime.Guard`, which decides when to save and when to stop, use `CheckpointWriter(store, guard)`.
`store.commit` saves synchronously, and raises `SaveError`. Files are written by torch.save and json and read
with `weights_only=True`, so a checkpoint cannot run code. State that would not be restored with the same type and
bits is refused by the first save, or earlier by `writer.prepare`, with a `StateError` that names its path.
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
    if name in _MODULE_OF:  # imported on first use, so that reading manifests and JSON does not import torch
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
