"""Importing libraries: large ones, whose objects all live until the process ends, and ones that may be missing."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = ("optuna", "tensorboard")
DEPENDENCIES = (
    *("corner", "deepdiff", "hydra", "jinja2", "matplotlib", "numpy", "omegaconf"),
    *("rich", "scipy", "submitit", "torch", "wandb", "xxhash", "zuko"),
)


def import_without_gc(module: str) -> None:
    """Import a module with the garbage collector disabled, which would scan its objects repeatedly.

    They are not scanned later either. For torch this saves half a second at the start, and as much at exit.
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


def missing_package(error: BaseException) -> str | None:
    """Return what to type where a package is missing that the framework imports, None for any other error."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package not in (*DEPENDENCIES, *EXTRAS):
        return None
    wanted = f"'framework[{package}]'" if package in EXTRAS else package.replace("hydra", "hydra-core")
    return f"the package {package} is missing; pip install {wanted}"
