"""The wall-clock budget: when the allocation ends, and who says so."""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from framework.config.duration import format_duration
from framework.runtime.process import process_start
from framework.runtime.schedulers import SCHEDULERS, Reading

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

    `wall_clock_budget` is None for none, a number of seconds that counts from the start of the
    allocation (of this process where no scheduler tells that), or "auto": what the scheduler says.
    """

    def __init__(self, wall_clock_budget: float | str | None, environment: Mapping[str, str] = os.environ) -> None:
        assert wall_clock_budget in (None, "auto") or isinstance(wall_clock_budget, int | float)
        self.wall_clock_budget = wall_clock_budget
        self._environment = environment
        self._warned: set[str] = set()

    def read(self, fresh: bool = False) -> Budget | None:
        """Return the budget if one is known; with `fresh`, from a source that follows an administrator's changes."""
        if self.wall_clock_budget == "auto":
            readings = (reading for scheduler in SCHEDULERS for reading in scheduler.ends(self._environment, fresh))
            return self._budget(readings, None if fresh else self._start_in_environment())
        if fresh or self.wall_clock_budget is None:
            return None
        return self._explicit(float(self.wall_clock_budget))

    def describe(self, budget: Budget | None, margin_seconds: float) -> str:
        """Return the line that a run says at its start."""
        if budget:
            until_save = format_duration(max(budget.seconds - margin_seconds, 0.0))
            total = format_duration(budget.seconds)
            return f"⏱ Wall-clock budget: {total} (from {budget.source}) — will checkpoint at {until_save}"
        if self.wall_clock_budget is None:
            return "⏱ Wall-clock budget: off (runtime.wall_clock_budget=auto asks the scheduler, 23h30m sets one)"
        why = "no scheduler here tells when it ends" if self.wall_clock_budget == "auto" else "refused, see above"
        return f"⏱ Wall-clock budget: off ({why}; set one with runtime.wall_clock_budget=23h30m)"

    def _explicit(self, seconds: float) -> Budget | None:
        readings = (reading for scheduler in SCHEDULERS for reading in scheduler.starts(self._environment))
        now = time.time()
        for reading in readings:
            if reading.time is not None and now - _MAX_SECONDS < reading.time <= now:
                end = Reading(f"your setting, since {reading.source}'s start", f"{seconds:g} s", reading.time + seconds)
                return self._budget(iter([end]), reading.time)
            self._warn(reading)
        start = process_start()
        return self._budget(iter([Reading("your setting", f"{seconds:g} s", start + seconds)]), start)

    def _budget(self, readings: Iterator[Reading], start: float | None) -> Budget | None:
        """Return the budget of the first reading that can be true."""
        now = time.time()
        for reading in readings:
            if reading.time is not None and now < reading.time < now + _MAX_SECONDS:
                return Budget(process_start() if start is None else start, reading.time, reading.source)
            self._warn(reading)
        return None

    def _start_in_environment(self) -> float | None:
        """Return the allocation's start where it costs no command: the end is what matters here."""
        text = self._environment.get("SLURM_JOB_START_TIME", "")
        return float(text) if text.isdigit() and 0 <= time.time() - float(text) < _MAX_SECONDS else None

    def _warn(self, reading: Reading) -> None:
        problem = reading.problem
        if reading.time is not None:
            wrong = "is over already" if reading.time <= time.time() else "is absurdly late"
            wrong = "is no moment" if math.isnan(reading.time) else wrong
            problem = f"{reading.source}: the end it gives ({reading.text[:60]!r}) {wrong}"
        if problem and problem not in self._warned:
            self._warned.add(problem)
            log.warning("⚠ Wall-clock budget: %s; ignored", problem)
