"""The wall-clock budget: when the allocation ends, and the source of that information."""

import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from framework.config.duration import format_duration, parse_duration
from framework.runtime.process import process_start
from framework.runtime.schedulers import SCHEDULERS, Scheduler
from framework.runtime.schedulers.time_estimate import TimeEstimate

log = logging.getLogger(__name__)

_MAX_SECONDS = 400 * 86400.0  # Slurm reports one year for "no limit"


@dataclass(frozen=True)
class Budget:
    """An allocation's start and end in Unix seconds, and the source of the end."""

    start: float
    end: float
    source: str

    @property
    def seconds(self) -> float:
        """The length of the allocation in seconds."""
        return self.end - self.start


class BudgetReader:
    """Reader of the budget, at the start and repeatedly during the run; each rejected value is logged once.

    `wall_clock_budget` is None for no budget, a duration (seconds, or a text such as 23h30m) that counts from
    the start of the allocation (or of this process if no scheduler reports it), or "auto" to ask the
    scheduler. `setting` is the configuration key shown to users. Raises `ValueError` for an invalid duration.
    """

    def __init__(
        self,
        wall_clock_budget: float | str | None,
        environment: Mapping[str, str] = os.environ,
        setting: str = "runtime.wall_clock_budget",
    ) -> None:
        if wall_clock_budget is not None and wall_clock_budget != "auto":
            wall_clock_budget = parse_duration(wall_clock_budget)
        self.wall_clock_budget = wall_clock_budget
        self._environment = environment
        self._setting = setting
        self._warned: set[str] = set()

    def read(self, fresh: bool = False) -> Budget | None:
        """Return the budget, if known; `fresh` uses only sources that reflect an administrator's changes."""
        if self.wall_clock_budget == "auto":
            return self._from_scheduler(fresh)
        if fresh or self.wall_clock_budget is None:
            return None
        start, since = self._start(SCHEDULERS)
        seconds = float(self.wall_clock_budget)
        end = TimeEstimate(f"your setting, counted from {since}", f"{seconds:g} s", start + seconds)
        return Budget(start, start + seconds, end.source) if self._is_plausible(end) else None

    def describe(self, budget: Budget | None, margin_seconds: float) -> str:
        """Return the line that a run logs at its start."""
        if budget:
            until_save = format_duration(max(budget.seconds - margin_seconds, 0.0))
            total = format_duration(budget.seconds)
            return f"⏱ Wall-clock budget: {total} (from {budget.source}) — will checkpoint at {until_save}"
        if self.wall_clock_budget is None:
            return f"⏱ Wall-clock budget: off ({self._setting}=auto asks the scheduler, 23h30m sets one)"
        why = "no scheduler here reports when it ends" if self.wall_clock_budget == "auto" else "refused, see above"
        return f"⏱ Wall-clock budget: off ({why}; set one with {self._setting}=23h30m)"

    def _from_scheduler(self, fresh: bool) -> Budget | None:
        for scheduler in SCHEDULERS:
            for estimate in scheduler.end_times(self._environment, fresh):
                if self._is_plausible(estimate, fresh):
                    assert estimate.time is not None
                    return Budget(self._start([scheduler])[0], estimate.time, estimate.source)
        return None

    def _start(self, schedulers: Iterable[Scheduler]) -> tuple[float, str]:
        """Return the allocation's start and its source; if unknown, the start of this process."""
        now = time.time()
        for scheduler in schedulers:
            for estimate in scheduler.start_times(self._environment):
                if estimate.time is not None and now - _MAX_SECONDS < estimate.time <= now:
                    return estimate.time, estimate.source
        return process_start(), "the start of this process"

    def _is_plausible(self, end: TimeEstimate, fresh: bool = False) -> bool:
        """Return whether the end is plausible; if not, warn, unless there is none or it has just been reached."""
        now = time.time()
        is_plausible = end.time is not None and now < end.time < now + _MAX_SECONDS
        is_reached = fresh and end.time is not None and end.time <= now  # read because of the SIGTERM sent at the end
        if not is_plausible and not is_reached:
            self._warn(end)
        return is_plausible

    def _warn(self, estimate: TimeEstimate) -> None:
        problem = estimate.problem
        if estimate.time is not None:
            wrong = "is in the past" if estimate.time <= time.time() else "is too far in the future"
            wrong = "is not a time" if math.isnan(estimate.time) else wrong
            problem = f"{estimate.source}: the reported end ({estimate.text[:60]!r}) {wrong}"
        if problem and problem not in self._warned:
            self._warned.add(problem)
            log.warning("⚠ Wall-clock budget: %s; ignored", problem)
