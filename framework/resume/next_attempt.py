"""What an attempt that ends early does last: it asks for the next one."""

import signal
import sys

from framework.config.schema import RuntimeConfig
from framework.errors import FrameworkError
from framework.rundir.attempts import Attempt, saved_state
from framework.rundir.directory import RunDirectory
from framework.runtime import Guard, Requeue, StopReason
from framework.runtime.lease import Lease


class NextAttempt:
    """Has the job started again as `options.requeue` says, also when the guard ends the process.

    Made while the attempt's lease is held and before it saves anything; `attempt` is its record, once there is one.
    """

    def __init__(self, directory: RunDirectory, options: RuntimeConfig, guard: Guard, lease: Lease) -> None:
        launcher = guard.previous_handler(signal.SIGUSR2)
        self._requeue = Requeue(options.requeue, directory.attempts_dir / "stuck", launcher, options.exit_code)
        self._run_dir, self._lease = directory.path, lease
        self._saved_before = saved_state(directory.path)
        self.attempt: Attempt | None = None
        guard.on_stuck = self._of_a_stuck_one

    def ask(self, reason: StopReason) -> None:
        """Ask for it, if the stop calls for one; raises `StuckError` if this one and the last brought nothing new."""
        self._requeue.after(reason, saved_state(self._run_dir) != self._saved_before)

    def _of_a_stuck_one(self, reason: StopReason) -> None:
        """Do what the main thread cannot: it is in a long call, and about to end with the process."""
        if self.attempt:
            self.attempt.end(reason.name.lower())
        self._lease.release()  # the next attempt may be another job, on another host
        try:
            self.ask(reason)
        except FrameworkError as error:
            print(f"✗ {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)
