"""One attempt at a run: from the plan to the record of how it ended, the next attempt and the exit code."""

import dataclasses
import sys

from framework.config.schema import RuntimeConfig
from framework.errors import ConfigError
from framework.resume import Plan
from framework.resume.next_attempt import NextAttempt
from framework.resume.pinned import mend_config
from framework.run import Run
from framework.rundir.directory import RunDirectory
from framework.rundir.metrics import read_progress
from framework.runtime import Guard, Policy, Ranks, StopReason
from framework.runtime.lease import Lease
from framework.versions import origin


def run_training(plan: Plan, directory: RunDirectory, guard: Guard, ranks: Ranks) -> float | None:
    """Take the run in `directory` as far as it goes; return the sum of the nodes' best validation losses.

    Ends the process with the stop reason's exit code if the guard has it stop early.
    """
    guard.configure(_policy(plan.config.runtime))
    run = Run(plan.config, directory, guard, ranks, plan.source)
    run.check()  # before anything is written
    is_new = directory.is_empty()
    with Lease(directory.lease_dir) as lease:
        plan.open(directory)
        mend_config(directory)
        next_attempt = NextAttempt(directory, plan.config.runtime, guard, lease)
        run.check_owner = lease.check
        try:
            stopped = _attempt(run, plan, next_attempt, lease.before.last_sign if lease.before else 0.0)
        except ConfigError:
            if is_new and run.doing == "starting":  # a tracker that cannot be built, which only the run directory shows
                directory.remove()
            raise
    if stopped:
        next_attempt.ask(stopped)
        sys.exit(guard.exit_code(stopped))
    return read_progress(directory.path, directory.attempts()).best_loss


def _attempt(run: Run, plan: Plan, next_attempt: NextAttempt, last_sign: float) -> StopReason | None:
    """Let the run go, and keep a record of it; `last_sign` is that of the attempt before."""
    run.results_of = run.directory.results_of(plan.record.config)
    num_epochs = {name: settings.loop.num_epochs for name, settings in run.settings.items()}
    facts = {**plan.facts(run.device.type), "num_epochs": num_epochs, "num_processes": run.ranks.size}
    attempt = next_attempt.attempt = run.directory.start_attempt(facts, last_sign)
    run.attempt_facts = {**origin(), "run_id": run.directory.run_id()}
    reason = "crashed"
    try:
        stopped = run.go(attempt)
        reason = stopped.name.lower() if stopped else "finished"
    finally:
        attempt.end(reason)
    return stopped


def _policy(runtime: RuntimeConfig) -> Policy:
    return Policy(**{field.name: getattr(runtime, field.name) for field in dataclasses.fields(Policy)})
