"""One piece of work on files, and every way in which it can be ended: killed, failed, or by a power cut."""

import errno
import itertools
import os
import random
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.faults import shim
from tests.faults.calls import Call
from tests.faults.fault import AFTER, BEFORE, TORN, Fault
from tests.faults.power import Disk, State, write_state
from tests.faults.shim import Acknowledge

Point = TypeVar("Point")

_READ = (errno.EIO, errno.ESTALE, errno.EACCES)
_NAMES = (errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOSPC, errno.EDQUOT)
ERRORS = {
    "open": (*_READ, errno.EINTR, errno.EMFILE),
    "read": (errno.EIO, errno.ESTALE, errno.EINTR),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EINTR),
    "sync": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE),
    "truncate": (errno.EIO, errno.ENOSPC),
    "stat": _READ,
    "list": (errno.EIO, errno.ESTALE),
    "map": (errno.ENOMEM,),
    "touch": _READ,
    "unlink": _READ,
    "rmdir": _READ,
    **dict.fromkeys(("mkdir", "rename", "link", "symlink"), _NAMES),
}


@dataclass(frozen=True)
class PowerCut:
    """The disk after a power cut, by when so many calls were made and this was acknowledged."""

    number: int
    state: State
    acknowledged: list[Any]

    def __str__(self) -> str:
        files = {name: content for name, (_, content) in self.state.items() if isinstance(content, bytes)}
        blank = [name for name, content in files.items() if not content.strip(b"\0")]
        return f"power cut before call {self.number}, {len(files)} files, blank {blank}, {self.acknowledged} told"


@dataclass(frozen=True)
class Section:
    """A piece of work, what is there before it, and what the next start has to find.

    `work` acknowledges what is done. `check` is given the directory afterwards and what was acknowledged, and raises
    unless that is there, and one can resume; `is_cut` where the power was cut. What `work` returns is the same whatever
    fails meanwhile, unless it raises.
    """

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[Path, Acknowledge], Any]
    check: Callable[[Path, list[Any], bool], None]


class Bench:
    """A section, in a directory of its own; the same path is used each time."""

    def __init__(self, section: Section, directory: Path) -> None:
        self.section, self.rng = section, random.Random(section.name)
        self._before, self.root = directory / "before", directory / "run"
        self._before.mkdir(parents=True)
        section.prepare(self._before)
        self._fresh()
        self.whole = shim.run(section.work, self.root, record=True)
        assert self.whole.exit_code == 0, self.whole.raised
        section.check(self.root, self.whole.acknowledged, False)

    @property
    def calls(self) -> list[Call]:
        return self.whole.calls

    def kills(self) -> list[Fault]:
        """Return all points at which it can be killed."""
        points = [Fault(number, when=when) for number in range(len(self.calls)) for when in (BEFORE, AFTER)]
        return points + [Fault(number, when=TORN) for number, call in enumerate(self.calls) if len(call.data) > 1]

    def failures(self) -> list[Fault]:
        """Return each call with each error that it can have; where an answer is lost, although it was done."""
        points = []
        for number, call in enumerate(self.calls):
            kind = call.kind.removeprefix("failed ")
            more = (errno.ENOSPC, errno.EDQUOT) if kind == "open" and call.is_new else ()
            points += [Fault(number, error) for error in (*ERRORS.get(kind, ()), *more)]
            if (call.changes and kind != "open") or kind == "close":
                points.append(Fault(number, errno.EIO, AFTER))
        return points

    def kill(self, fault: Fault) -> None:
        """Kill it there and start again."""
        outcome = self._run(fault)
        assert outcome.exit_code in (-9, 0), f"{outcome.exit_code}: {outcome.raised}"  # 0 where it makes fewer calls
        self.section.check(self.root, outcome.acknowledged, False)

    def fail(self, fault: Fault) -> None:
        """Have a call fail; that is told without a traceback, or makes no difference."""
        outcome = self._run(fault)
        assert outcome.is_clean and outcome.exit_code >= 0, f"{outcome.exit_code}: {outcome.raised}"
        if not outcome.raised:
            assert outcome.returned == self.whole.returned
        self.section.check(self.root, outcome.acknowledged, False)

    def cut_power(self, states_per_call: int = 1) -> Iterator[PowerCut]:
        """Yield what the disk may hold after a power cut before and after each call, each state once."""
        self._fresh()
        disk, seen = Disk(self.root), set()
        for number in range(len(self.calls) + 1):
            after = zip(self.whole.acknowledged, self.whole.acknowledged_after, strict=True)
            acknowledged = [value for value, at in after if at <= number]
            for state in itertools.chain(*(disk.states(self.rng) for _ in range(states_per_call))):
                if (key := repr((state, acknowledged))) not in seen:
                    seen.add(key)
                    yield PowerCut(number, state, acknowledged)
            if number < len(self.calls):
                disk.apply(self.calls[number])

    def start_after(self, cut: PowerCut) -> None:
        """Start again with what a power cut has left."""
        self._clear()
        write_state(cut.state, self.root)
        self.section.check(self.root, cut.acknowledged, True)

    def sample(self, points: Iterable[Point], limit: int | None) -> list[Point]:
        """Return so many of the points, all of them for None."""
        points = list(points)
        return points if limit is None or limit >= len(points) else self.rng.sample(points, limit)

    def at(self, fault: Fault | PowerCut) -> str:
        """Return where a fault is, for people."""
        if fault.number == len(self.calls):
            return f"{self.section.name}: {fault}, the last"
        call = self.calls[fault.number]
        paths = [os.path.relpath(path, self.root) if path.startswith("/") else path for path in call.paths]
        return f"{self.section.name}: {fault} of {len(self.calls)}, {call.kind} {' '.join(paths)}"

    def _run(self, fault: Fault) -> shim.Outcome:
        self._fresh()
        return shim.run(self.section.work, self.root, replace(fault, recorded=self.calls[fault.number]))

    def _fresh(self) -> None:
        self._clear()
        shutil.copytree(self._before, self.root, symlinks=True)

    def _clear(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root)


def problems_of(bench: Bench, points: Iterable[Point], do: Callable[[Point], None]) -> list[str]:
    """Do it at each point; return a line for each that did not end as it should."""
    found = []
    for fault in points:
        try:
            do(fault)
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(line.filename).name}:{line.lineno}: {line.line}"
            found.append(f"{bench.at(fault)}\n    {type(error).__name__}: {error}\n    {where}")
    return found
