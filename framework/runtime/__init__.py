"""Stopping in time: signals and the wall clock. Knows nothing of simulation-based inference."""

from framework.runtime.budget import Budget, BudgetReader
from framework.runtime.connect import connect_processes
from framework.runtime.distributed import DistributedContext
from framework.runtime.guard import Guard
from framework.runtime.policy import Policy, Save, Stopped, StopReason
from framework.runtime.process import process_start
from framework.runtime.requeue import Requeue
from framework.runtime.schedulers.slurm_job import deaf

__all__ = [
    "Budget",
    "BudgetReader",
    "DistributedContext",
    "Guard",
    "Policy",
    "Requeue",
    "Save",
    "StopReason",
    "Stopped",
    "connect_processes",
    "deaf",
    "process_start",
]
