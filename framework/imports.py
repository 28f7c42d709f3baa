"""Importing large libraries, whose objects all live until the process ends."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def import_without_gc(module: str) -> None:
    """Import a module without the garbage collector, which would scan its objects again and again.

    It does not scan them later either. For torch that saves half a second at the start, and as much at the exit.
    """
    if module not in sys.modules:
        with gc_frozen():
            importlib.import_module(module)


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Disable the garbage collector in the block, and freeze the objects that the block creates."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
