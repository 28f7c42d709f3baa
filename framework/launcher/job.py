"""What runs in a job: the task of the command, with the configuration of its submission."""

import copy
import importlib
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobRuntime, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from framework.launcher.state import holds_work, record_exit

_REQUEUED = "FRAMEWORK_REQUEUED"  # tells the run that it goes on for an earlier process of the same job

_STOPPED = {0, 130, -1, LOCAL_REQUEUE_RETURN_CODE}  # the last two are submitit's, of a requeue


@dataclass(frozen=True)
class Job:
    """One run as it was submitted; submitit pickles it, and again at each requeue."""

    config: DictConfig  # as composed at submission, with Hydra's own node; its run directory is absolute
    task: str  # the function decorated by hydra.main, as `module:name`
    requeued: bool = False

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
        code: object = 1
        if os.environ.get("SUBMITIT_EXECUTOR") == "local":  # submitit ignores it, and the run listens a second later
            signal.signal(signal.SIGTERM, self._leave)
        try:
            self._run()
            code = 0
        except SystemExit as end:
            code = end.code
            raise
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # how this ends is decided
            if JobEnvironment().global_rank == 0:
                resumable = {*_STOPPED, OmegaConf.select(self.config, "runtime.exit_code")}
                record_exit(self.run_dir, code, is_failure=code not in resumable)

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit is to run after a requeue, which the run asks for once it has saved."""
        return DelayedSubmission(replace(self, requeued=True))

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """End resumably before anything has begun; a job of Slurm waits for being killed, and is then requeued."""
        sys.exit(OmegaConf.select(self.config, "runtime.exit_code"))

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
