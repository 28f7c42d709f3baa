"""Simulation-based inference that survives the scheduler.

`load_run` opens a finished or interrupted run from Python; everything else starts with
`python -m framework.train`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.inference.load_run import load_run

__all__ = ["__version__", "load_run"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name == "load_run":  # imported on first use, so that --help does not wait for torch
        from framework.inference.load_run import load_run

        return load_run
    raise AttributeError(f"module 'framework' has no attribute '{name}'")
