"""A process whose calls on the files of one directory are counted, and one of them is its last, fails, or waits.

The work runs in a fork of this process, which has imported everything. What lies below Python counts too: each call
is stopped by the kernel, in whatever thread it is made.
"""

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.errors import FrameworkError
from tests.faults import tracing
from tests.faults.calls import Call, note_written, read_call
from tests.faults.fault import BEFORE, TORN, Fault
from tests.faults.tracing import ENTERED, NUMBERS, RETURNED, WALL, Registers

_SKIPPED = {NUMBERS.get(name) for name in ("fsync", "fdatasync")}  # they take most of the time, and change nothing


@dataclass
class Outcome:
    """How the work ended: what it returned, acknowledged and raised; `is_clean` unless a user sees a traceback."""

    calls: list[Call] = field(default_factory=list)
    acknowledged: list[Any] = field(default_factory=list)
    acknowledged_after: list[int] = field(default_factory=list)  # the number of calls before each
    returned: Any = None
    raised: str = ""
    is_clean: bool = True
    exit_code: int = 0  # negative for a signal
    was_hit: bool = False  # the fault's call was made


class Acknowledge:
    """Tells the parent what is done: whatever happens later, it must be found again."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, value: Any) -> None:
        os.write(self._descriptor, pickle.dumps(("acknowledged", value)))

    def end(self, **entries: Any) -> None:
        os.write(self._descriptor, pickle.dumps(("ended", entries)))


def run(
    work: Callable[[Path, Acknowledge], Any],
    root: Path,
    fault: Fault | None = None,
    record: bool = False,
    limit_seconds: int = 60,
) -> Outcome:
    """Do the work in a child, with a fault; `record` keeps what each call on the files of `root` wrote."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(work, root, writer, limit_seconds)
    os.close(writer)
    tracer = _Tracer(pid, reader, os.path.realpath(root), fault, record)
    try:
        tracer.follow()
    finally:
        tracer.end()
        os.close(reader)
    return tracer.outcome


def works_here() -> str:
    """Return why no process can be traced on this machine, nothing if it can."""
    if not NUMBERS:
        return f"no table of system calls for {tracing.MACHINE}"
    try:
        outcome = run(lambda root, acknowledge: root.stat(), Path("/proc/self"), limit_seconds=10)
    except OSError as error:
        return f"ptrace: {error.strerror}"
    return "" if outcome.exit_code == 0 else f"ptrace: a traced process ended with {outcome.exit_code}"


def _child(work: Callable[[Path, Acknowledge], Any], root: Path, writer: int, limit_seconds: int) -> None:
    """Do the work and never return; it ends as a command of the framework would."""
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(limit_seconds)
        tell = Acknowledge(writer)
        tracing.begin_to_be_traced()
        try:
            tell.end(returned=work(root, tell))
            code = 0
        except (FrameworkError, OSError) as error:
            tell.end(raised=f"{type(error).__name__}: {error}")
            code = getattr(error, "exit_code", 1)
        except SystemExit as error:
            tell.end(raised=f"SystemExit: {error.code}")
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            tell.end(raised=traceback.format_exc(), is_clean=False)
            code = 1
    finally:
        os._exit(code)


class _Tracer:
    def __init__(self, pid: int, reader: int, root: str, fault: Fault | None, record: bool) -> None:
        self.pid, self.root, self.fault, self.record = pid, root, fault, record
        self.outcome = Outcome()
        self._reader = reader
        self._under_way: dict[int, Call] = {}  # by thread: to be looked at when it has returned
        self._hit: Call | None = None
        self._num_stops = 0
        os.set_blocking(reader, False)

    def follow(self) -> None:
        """Go from stop to stop until the child has ended."""
        os.waitpid(self.pid, WALL)
        tracing.trace(self.pid)
        while True:
            tid, status = os.waitpid(-self.pid, WALL)
            if os.WIFSTOPPED(status):
                with suppress(ProcessLookupError):  # another thread has ended the process meanwhile
                    self._on_stop(tid, status)
            elif tid == self.pid:
                self.outcome.exit_code = os.waitstatus_to_exitcode(status)
                break
        self._hear()

    def end(self) -> None:
        """Leave nothing of it behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-self.pid, WALL)

    def _on_stop(self, tid: int, status: int) -> None:
        why, number = tracing.why_stopped(status)
        if why == ENTERED and self._is_of_no_interest():
            tracing.resume(tid)
        elif why == ENTERED:
            self._on_call(Registers(tid))
        elif why == RETURNED and tid in self._under_way:
            self._on_return(Registers(tid), self._under_way.pop(tid))
        else:
            tracing.resume(tid, number=number)

    def _is_of_no_interest(self) -> bool:
        """Tell whether the call that is entered need not be looked at: the fault's comes later, or has come."""
        self._num_stops += 1
        recorded = self.fault.recorded if self.fault else None
        return bool(recorded) and (self.outcome.was_hit or self._num_stops < recorded.stop)

    def _on_call(self, registers: Registers) -> None:
        has_happened = self.outcome.was_hit and not self.record
        call = None if has_happened else read_call(registers, self.root)
        if call is None:
            self._let(registers, False)
            return
        self._hear()
        call.stop, fault = self._num_stops, self.fault
        at = len(self.outcome.calls)
        self.outcome.calls.append(call)
        if fault is None or not fault.is_at(at, call):
            if self.record:
                self._under_way[registers.tid] = call
            self._let(registers, self.record)
            return
        self.outcome.was_hit, self._hit = True, call
        if fault.meanwhile:
            time.sleep(0.02)  # the calls end that other threads are in; they stop before their next ones
            fault.meanwhile()
            self._let(registers, False)
        elif fault.when == BEFORE and fault.error:
            registers.skip(-fault.error)
            tracing.resume(registers.tid)
        elif fault.when == BEFORE:
            self._kill()
        else:
            if fault.when == TORN:
                registers.set_argument(2, registers.argument(2) // 2)
            self._under_way[registers.tid] = call
            self._let(registers, True)

    def _let(self, registers: Registers, until_return: bool) -> None:
        if registers.name and NUMBERS[registers.name] in _SKIPPED and not until_return:
            registers.skip(0)
        tracing.resume(registers.tid, until_return)

    def _on_return(self, registers: Registers, call: Call) -> None:
        fault = self.fault
        if fault and self.outcome.was_hit and call is self._hit:
            if not fault.error:
                self._kill()
                return
            registers.answer(-fault.error)
        elif registers.result < 0:
            call.kind = f"failed {call.kind}"
        else:
            note_written(call, registers.result)
        tracing.resume(registers.tid)

    def _kill(self) -> None:
        self._hear()
        os.killpg(self.pid, signal.SIGKILL)

    def _hear(self) -> None:
        """Take what the child has told so far."""
        told = b""
        with suppress(BlockingIOError):
            while chunk := os.read(self._reader, 1 << 16):
                told += chunk
        while told:
            kind, value = pickle.loads(told)
            told = told[len(pickle.dumps((kind, value))) :]
            if kind == "acknowledged":
                self.outcome.acknowledged.append(value)
                self.outcome.acknowledged_after.append(len(self.outcome.calls))
            else:
                for name, fact in value.items():
                    setattr(self.outcome, name, fact)
