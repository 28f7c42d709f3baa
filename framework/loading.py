"""Loading large libraries, of which all stays until the process ends."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def load(module: str) -> None:
    """Import a module without the garbage collector, which would look through all that it makes again and again.

    Nor will it look there later. For torch that saves half a second at the start, and as much at the exit.
    """
    if module not in sys.modules:
        with uncollected():
            importlib.import_module(module)


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave the garbage collector out of the block, and what the block makes out of the collector."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
