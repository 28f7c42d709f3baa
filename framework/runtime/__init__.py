"""Stopping in time: signals and the wall clock. Knows nothing of simulation-based inference."""

from framework.runtime.budget import Budget, BudgetReader
from framework.runtime.connect import connected
from framework.runtime.guard import Guard
from framework.runtime.policy import Policy, Save, Stopped, StopReason
from framework.runtime.process import process_start
from framework.runtime.ranks import Ranks
from framework.runtime.requeue import Requeue
from framework.runtime.schedulers.slurm_job import deaf

__all__ = [
    "Budget",
    "BudgetReader",
    "Guard",
    "Policy",
    "Ranks",
    "Requeue",
    "Save",
    "StopReason",
    "Stopped",
    "connected",
    "deaf",
    "process_start",
]
