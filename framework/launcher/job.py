"""What runs in a job: the task of the command, with the configuration of its submission, and the requeue after it."""

import copy
import importlib
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobRuntime, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write
from submitit.core.utils import DelayedSubmission, UncompletedJobError

from framework.launcher.state import end_as_failed, holds_work, last_attempt, newest_commit, record_exit

_REQUEUED = "FRAMEWORK_REQUEUED"  # tells the task that this is the job of the attempt before
_WANTS_REQUEUE = {"requeue", "out_of_time"}  # stop reasons; after SIGTERM it is the scheduler that decides
_MAX_IDLE_ATTEMPTS = 2  # in a row that have committed nothing


@dataclass
class Job:
    """One run as it was submitted; submitit pickles it, and again at each requeue."""

    config: DictConfig  # as composed at submission, with Hydra's own node; its run directory is absolute
    task: str  # the function decorated by hydra.main, as `module:name`
    requeued: bool = False
    num_idle: int = 0  # attempts in a row up to this one that have committed nothing
    started_from: str = ""  # the newest commit when this attempt began

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.config.hydra.runtime.output_dir)

    @property
    def overrides(self) -> list[str]:
        """What the run was asked for on the command line."""
        return list(self.config.hydra.overrides.task)

    def __call__(self) -> None:
        """Take the run on; the process ends with the task's exit code, or requeued."""
        self.started_from = newest_commit(self.run_dir)
        try:
            self._run()
            record_exit(self.run_dir, 0)
        except SystemExit as end:
            record_exit(self.run_dir, end.code if isinstance(end.code, int) else 1)
            attempt = last_attempt(self.run_dir)
            if attempt and attempt["stop_reason"] in _WANTS_REQUEUE and attempt["pid"] == os.getpid():
                self._requeue()
            raise

    def checkpoint(self) -> DelayedSubmission | None:
        """Return what submitit is to run after the requeue, None for none: the run does not get on."""
        newest = newest_commit(self.run_dir)
        num_idle = self.num_idle + 1 if newest == self.started_from else 0
        if num_idle >= _MAX_IDLE_ATTEMPTS:
            reason = f"{num_idle} attempts in a row were stopped before they could save anything new"
            end_as_failed(self.run_dir, reason)
            print(f"✗ {self.run_dir}: {reason}; give it more time, or save more often", file=sys.stderr)
            return None
        return DelayedSubmission(replace(self, requeued=True, num_idle=num_idle))

    def _run(self) -> None:
        module, _, name = self.task.partition(":")
        task = getattr(importlib.import_module(module), name)
        setup_globals()
        config = copy.deepcopy(self.config)  # the one that is pickled for the next attempt stays as it is
        JobRuntime.instance().set("name", config.hydra.job.name)
        if self.requeued:
            os.environ[_REQUEUED] = "1"
        if holds_work(self.run_dir):
            with read_write(config), open_dict(config):
                config.resume = True
        result = run_job(
            task_function=getattr(task, "__wrapped__", task),
            config=config,
            job_dir_key="hydra.runtime.output_dir",
            job_subdir_key=None,
            hydra_context=HydraContext(config_loader=cast(Any, None), callbacks=Callbacks(config)),
        )
        _ = result.return_value  # raises what the task has raised

    def _requeue(self) -> None:
        """Have submitit requeue the job, now that all is saved and closed; its handler is in place again."""
        handler = signal.getsignal(signal.SIGUSR2)
        if not callable(handler):
            return
        try:
            handler(signal.SIGUSR2, None)
        except UncompletedJobError:  # what `checkpoint` has refused
            sys.exit(1)
        except Exception as error:
            print(f"⚠ {self.run_dir}: could not be requeued ({error}); it can be resumed", file=sys.stderr)
