"""The wall-clock budget: when the allocation ends, and who says so."""

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

_MAX_SECONDS = 400 * 86400.0  # Slurm writes a year for no limit


@dataclass(frozen=True)
class Budget:
    """An allocation's start and end in Unix seconds, and where the end is known from."""

    start: float
    end: float
    source: str

    @property
    def seconds(self) -> float:
        """The length of the allocation."""
        return self.end - self.start


class BudgetReader:
    """Reads the budget, at the start and again now and then; says each thing it refuses once.

    `wall_clock_budget` is None for none, a duration (seconds, or a text such as 23h30m) that counts from
    the start of the allocation (of this process where no scheduler tells that), or "auto": what the
    scheduler says. `setting` is what people set it with. Raises `ValueError` for what is no duration.
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
        self._environment, self._setting = environment, setting
        self._warned: set[str] = set()

    def read(self, fresh: bool = False) -> Budget | None:
        """Return the budget if one is known; with `fresh`, from a source that follows an administrator's changes."""
        if self.wall_clock_budget == "auto":
            return self._of_scheduler(fresh)
        if fresh or self.wall_clock_budget is None:
            return None
        start, since = self._start(SCHEDULERS)
        seconds = float(self.wall_clock_budget)
        end = TimeEstimate(f"your setting, counted from {since}", f"{seconds:g} s", start + seconds)
        return Budget(start, start + seconds, end.source) if self._is_plausible(end) else None

    def describe(self, budget: Budget | None, margin_seconds: float) -> str:
        """Return the line that a run says at its start."""
        if budget:
            until_save = format_duration(max(budget.seconds - margin_seconds, 0.0))
            total = format_duration(budget.seconds)
            return f"⏱ Wall-clock budget: {total} (from {budget.source}) — will checkpoint at {until_save}"
        if self.wall_clock_budget is None:
            return f"⏱ Wall-clock budget: off ({self._setting}=auto asks the scheduler, 23h30m sets one)"
        why = "no scheduler here tells when it ends" if self.wall_clock_budget == "auto" else "refused, see above"
        return f"⏱ Wall-clock budget: off ({why}; set one with {self._setting}=23h30m)"

    def _of_scheduler(self, fresh: bool) -> Budget | None:
        for scheduler in SCHEDULERS:
            for estimate in scheduler.end_times(self._environment, fresh):
                if self._is_plausible(estimate, fresh):
                    assert estimate.time is not None
                    return Budget(self._start([scheduler])[0], estimate.time, estimate.source)
        return None

    def _start(self, schedulers: Iterable[Scheduler]) -> tuple[float, str]:
        """Return the allocation's start and who tells it; failing that, this process's."""
        now = time.time()
        for scheduler in schedulers:
            for estimate in scheduler.start_times(self._environment):
                if estimate.time is not None and now - _MAX_SECONDS < estimate.time <= now:
                    return estimate.time, estimate.source
        return process_start(), "the start of this process"

    def _is_plausible(self, end: TimeEstimate, fresh: bool = False) -> bool:
        """Tell whether the end can be true; if not, warn unless it says that there is no limit, or is known by now."""
        now = time.time()
        is_plausible = end.time is not None and now < end.time < now + _MAX_SECONDS
        is_reached = fresh and end.time is not None and end.time <= now  # read because of the SIGTERM that it brings
        if not is_plausible and not is_reached:
            self._warn(end)
        return is_plausible

    def _warn(self, estimate: TimeEstimate) -> None:
        problem = estimate.problem
        if estimate.time is not None:
            wrong = "is over already" if estimate.time <= time.time() else "is absurdly late"
            wrong = "is not a time" if math.isnan(estimate.time) else wrong
            problem = f"{estimate.source}: the end it gives ({estimate.text[:60]!r}) {wrong}"
        if problem and problem not in self._warned:
            self._warned.add(problem)
            log.warning("⚠ Wall-clock budget: %s; ignored", problem)
