"""Jobs as processes of this machine, through submitit's local executor."""

import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from submitit.local.local import LocalJob

from framework.compat.submitit import SessionExecutor, process_of
from framework.launcher.jobs import SubmittedJob
from framework.launcher.launcher_config import LocalConfig
from framework.launcher.launcher_job import Job

_NO_LIMIT_SECONDS = 366 * 86400
_CONTROLLER = "framework.launcher.controller"


class LocalJobs:
    """Runs `num_parallel` jobs at once, each with its time limit; a requeued one starts again immediately."""

    kind = "slurm_local"

    def __init__(self, config: LocalConfig, folder: Path) -> None:
        self.folder = folder
        self._num_parallel = config.num_parallel
        self._executor = SessionExecutor(folder, _CONTROLLER)
        self._executor.update_parameters(
            timeout_min=(config.time or _NO_LIMIT_SECONDS) / 60,
            signal_delay_s=int(config.signal_lead),
            tasks_per_node=config.tasks_per_node,
            stderr_to_stdout=True,
            setup=config.setup,
        )
        self._waiting: list[tuple[SubmittedJob, Job]] = []
        self._started: list[tuple[SubmittedJob, LocalJob[Any]]] = []

    def submit(self, jobs: Sequence[Job]) -> list[SubmittedJob]:
        """Put the jobs in the queue; `refresh` starts them."""
        submitted = [SubmittedJob(job.run_dir) for job in jobs]
        self._waiting += zip(submitted, jobs, strict=True)
        return submitted

    def refresh(self, jobs: Sequence[SubmittedJob]) -> None:
        """See which have ended, and start the next ones."""
        for submitted, started in self._started:
            submitted.state = "ended" if started.done() else "running"
        own = {id(submitted) for submitted, _ in self._waiting + self._started}
        for job in jobs:
            if id(job) not in own:  # of another launcher
                job.state = "running" if _is_controller(job.job_id) else "ended"
        while self._waiting and sum(job.state == "running" for job, _ in self._started) < self._num_parallel:
            self._start(*self._waiting.pop(0))

    def stop(self, jobs: Sequence[SubmittedJob]) -> str:
        """Have the running ones save and stop, and wait for that; if interrupted again, kill them."""
        self._waiting.clear()
        processes = [process_of(job) for _, job in self._started if not job.done()]
        running = [process for process in processes if process]
        for process in running:
            process.send_signal(signal.SIGTERM)
        try:
            while any(process.poll() is None for process in running):
                time.sleep(0.1)
        except BaseException:
            for process in running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise
        return f"{len(running)} running jobs have saved and stopped"

    def _start(self, submitted: SubmittedJob, job: Job) -> None:
        started = self._executor.submit(job)
        submitted.job_id = started.job_id
        submitted.log = str(started.paths.stdout)
        submitted.state = "running"
        self._started.append((submitted, cast(LocalJob[Any], started)))
        submitted.record(self.kind, host=socket.gethostname())


def _is_controller(pid: str) -> bool:
    """Tell whether a local job of an earlier launcher is still there."""
    with suppress(OSError):
        return _CONTROLLER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
