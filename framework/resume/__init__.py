"""Whether a run can go on with another configuration: the difference, what it breaks, and who consented."""

from framework.resume.compare import compare_runs
from framework.resume.differences import Change, differences
from framework.resume.plan import Plan, plan_attempt, plan_resume

__all__ = ["Change", "Plan", "compare_runs", "differences", "plan_attempt", "plan_resume"]
