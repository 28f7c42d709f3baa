"""Stopping in time: signals and the wall clock. Independent of simulation-based inference."""

from framework.runtime.budget import Budget, BudgetReader
from framework.runtime.connect import connect_processes
from framework.runtime.distributed import DistributedContext
from framework.runtime.guard import Guard
from framework.runtime.policy import Policy, Save, Stopped, StopReason
from framework.runtime.process import process_start
from framework.runtime.requeue import Requeuer
from framework.runtime.schedulers import check_signal_delivery

__all__ = [
    "Budget",
    "BudgetReader",
    "DistributedContext",
    "Guard",
    "Policy",
    "Requeuer",
    "Save",
    "StopReason",
    "Stopped",
    "check_signal_delivery",
    "connect_processes",
    "process_start",
]
