"""submitit: how its local executor starts jobs and passes on signals, and how a job asks to be requeued."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.local import local

CHECKED_ON = ("submitit==1.5.4",)

REQUEUE_CODES = frozenset({-1, local.LOCAL_REQUEUE_RETURN_CODE})  # exit codes of a process that was requeued


def is_local() -> bool:
    """Tell whether this process was started by the local executor."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "local"


def requeue() -> None:
    """Requeue the job and end the process; on ranks other than 0, do nothing.

    submitit's own handler also pickles the job again, which leaves no job if the process is killed meanwhile, and
    decides by the clock whether to requeue.
    """
    environment = JobEnvironment()
    if environment.global_rank == 0:
        environment._requeue(countdown=0)  # a number that is only logged
        sys.exit(-1)


def is_own_line(line: str) -> bool:
    """Tell whether a line of a job's log was written by submitit."""
    return line.startswith("submitit ")


class SessionExecutor(local.LocalExecutor):
    """Starts each job in a session of its own, so that Ctrl+C at the launcher does not reach it.

    `controller` is the module that runs as its parent, with a subclass of `ForwardingController`.
    """

    def __init__(self, folder: Path, controller: str) -> None:
        super().__init__(folder)
        self._controller = controller

    def _submit_command(self, command: str) -> local.LocalJob[Any]:
        num_tasks, setup = self.parameters["tasks_per_node"], self.parameters["setup"]
        environment = {
            **os.environ,
            "SUBMITIT_LOCAL_NTASKS": str(num_tasks),
            "SUBMITIT_LOCAL_COMMAND": command,
            "SUBMITIT_LOCAL_TIMEOUT_S": str(round(60 * self.parameters["timeout_min"])),
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(self.parameters["signal_delay_s"]),
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_STDERR_TO_STDOUT": "1",
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_WITH_SHELL": "",
        }
        controller = shlex.join([sys.executable, "-m", self._controller, str(self.folder)])
        script = " && ".join([*setup, f"exec {controller}"])
        process = subprocess.Popen(["bash", "-c", script], env=environment, start_new_session=True)
        return local.LocalJob(self.folder, str(process.pid), tasks=list(range(num_tasks)), process=process)


def process_of(job: local.LocalJob[Any]) -> subprocess.Popen[bytes] | None:
    """Return the parent of a local job's processes, if this process has started it."""
    return job._process


class ForwardingController(local.Controller):
    """The parent of a local job's processes, with a method for the signals that it passes on to them."""

    def forward(self, number: int) -> None:
        """Pass a signal on to all processes of the job that are there."""
        super()._forward_signal(number)  # type: ignore[arg-type]  # a plain number will do

    def _forward_signal(self, signum: Any, *args: Any) -> None:
        self.forward(signum)
