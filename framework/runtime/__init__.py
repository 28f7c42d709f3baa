"""Stopping in time: signals and the wall clock. Knows nothing of simulation-based inference."""

from framework.runtime.guard import Guard, StopReason

__all__ = ["Guard", "StopReason"]
