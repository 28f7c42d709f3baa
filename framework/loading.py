"""Loading large libraries, of which all stays until the process ends."""

import gc
import importlib
import sys


def load(module: str) -> None:
    """Import a module without the garbage collector, which would look through all that it makes again and again.

    Nor will it look there later. For torch that saves half a second at the start, and as much at the exit.
    """
    if module in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module(module)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
