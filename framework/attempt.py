"""One attempt at a run: it owns the run directory, keeps its record, and determines how the process exits."""

import dataclasses
import logging
import signal
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from framework.config.schema import RuntimeConfig
from framework.errors import ConfigError, FrameworkError
from framework.resume import Plan
from framework.resume.compare import INEXACT
from framework.run import Run
from framework.run_setup import RunSetup
from framework.rundir.attempts import AttemptFile, Outcome
from framework.rundir.begin import begin_run
from framework.rundir.directory import RunDirectory
from framework.rundir.metrics import read_progress
from framework.rundir.saved_work import saved_state
from framework.runtime import DistributedContext, Guard, Policy, Requeuer, StopReason
from framework.runtime.lease import Lease

log = logging.getLogger(__name__)


class Attempt:
    """A process that works on the run in `directory`: `with Attempt(...) as attempt: loss = attempt.run()`.

    The constructor checks everything that can be checked, without writing anything (`ConfigError`). While the context
    is open, this process owns the directory (`ResumeRefusedError` if another one does) and records its progress. On
    exit it releases the directory; if the guard has stopped the run early, the job is requeued as configured by
    `runtime.requeue`, and the process exits with the stop reason's exit code.
    """

    def __init__(self, plan: Plan, directory: RunDirectory, guard: Guard, distributed: DistributedContext) -> None:
        self._plan = plan
        self._directory = directory
        self._guard = guard
        self._distributed = distributed
        guard.configure(_policy(plan.config.runtime))
        self._setup = RunSetup(plan.config, plan.source, guard, distributed)
        self._was_empty = directory.is_empty()
        self._stack = ExitStack()
        self._stopped: StopReason | None = None
        self._outcome = Outcome.CRASHED
        self._file: AttemptFile | None = None  # once it has started

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._lease = stack.enter_context(Lease(self._directory.lease_dir))
            plan = self._plan
            plan.check_unchanged(self._directory)
            self._saved_before = saved_state(self._directory.path)
            self._requeuer = self._make_requeuer(plan.config.runtime)
            self._guard.on_stuck = self._end_stuck
            stack.callback(setattr, self._guard, "on_stuck", lambda reason: None)
            self._run_info = begin_run(self._directory, **plan.begin_arguments)
            self._results_of = self._directory.results_of(plan.record.config)
            self._saved_before = saved_state(self._directory.path)
            self._file = self._start()
            self._stack = stack.pop_all()
        return self

    def run(self) -> float | None:
        """Run all phases; return the sum of the nodes' best validation losses, or None if the run stopped early."""
        assert self._file is not None, "the context is open"
        about_code = {name: getattr(self._file.record, name) for name in ("versions", "git_commit", "code")}
        run = Run(
            self._setup,
            self._directory,
            self._guard,
            self._distributed,
            self._file,
            metadata={"run_id": self._run_info.run_id, "attempt": self._file.number, **about_code},
            check_owner=self._lease.check,
            results_of=self._results_of,
        )
        self._stopped = run.execute()
        self._outcome = _outcome(self._stopped) if self._stopped else Outcome.FINISHED
        return None if self._stopped else read_progress(self._directory.path, self._directory.attempts()).best_loss

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None, "the context was open"
        try:
            self._file.end(self._outcome)
            if isinstance(error, ConfigError) and self._was_empty and self._file.record.phase == "starting":
                self._directory.remove()  # a tracker cannot be built, which only the run itself detects
        finally:
            self._stack.close()  # before requesting the next attempt, which may run on another host
        if self._stopped:
            self._request_requeue(self._stopped)
            sys.exit(self._guard.exit_code(self._stopped))

    def _start(self) -> AttemptFile:
        """Record the start, and the end of a previous attempt that died; warn if the device type has changed."""
        plan = self._plan
        device = self._setup.device.type
        before = plan.old.attempts[-1].device if plan.old and plan.old.attempts else None
        if before not in (None, device):
            log.warning("⚠ device %s → %s: %s", before, device, INEXACT)
        record = plan.attempt_record(device, self._setup.num_epochs, self._distributed.world_size)
        return self._directory.start_attempt(record, self._lease.before.last_sign if self._lease.before else 0.0)

    def _make_requeuer(self, runtime: RuntimeConfig) -> Requeuer:
        launcher = self._guard.previous_handler(signal.SIGUSR2)
        return Requeuer(runtime.requeue, self._directory.attempts_dir / "stuck", launcher, runtime.exit_code)

    def _request_requeue(self, reason: StopReason) -> None:
        """Requeue the job if the stop requires it; raises `StuckError` after two attempts without progress."""
        self._requeuer.after(reason, saved_state(self._directory.path) != self._saved_before)

    def _end_stuck(self, reason: StopReason) -> None:
        """End the attempt from another thread: the main thread is stuck in a long call, and the process will exit."""
        if self._file:
            self._file.end(_outcome(reason))
        self._lease.release()
        try:
            self._request_requeue(reason)
        except FrameworkError as error:
            print(f"✗ {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)


def _outcome(reason: StopReason) -> Outcome:
    return Outcome(reason.name.lower())


def _policy(runtime: RuntimeConfig) -> Policy:
    return Policy(**{field.name: getattr(runtime, field.name) for field in dataclasses.fields(Policy)})
