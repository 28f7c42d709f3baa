"""Resuming a run, also with a changed configuration: the differences, their effects, and which are allowed."""

from framework.resume.compare import compare_runs
from framework.resume.differences import Change, differences
from framework.resume.plan import Plan, plan_attempt, plan_resume

__all__ = ["Change", "Plan", "compare_runs", "differences", "plan_attempt", "plan_resume"]
