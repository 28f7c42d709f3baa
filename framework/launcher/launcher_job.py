"""What runs in a job: the task of the command, with the configuration of its submission."""

import copy
import importlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from submitit import JobEnvironment

from framework.compat import submitit as compat_submitit
from framework.compat.hydra import run_task
from framework.errors import ConfigError
from framework.new_directories import refuse_links
from framework.paths import register_bundle
from framework.rundir.job_records import record_exit
from framework.rundir.saved_work import holds_work

_STOPPED = {0, 130, *compat_submitit.REQUEUE_CODES}


@dataclass(frozen=True)
class Job:
    """One run as it was submitted, which submitit pickles."""

    config: DictConfig  # as composed at submission, with Hydra's own node; its run directory is absolute
    task: str  # the function decorated by hydra.main, as `module:name`

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.config.hydra.runtime.output_dir)

    @property
    def overrides(self) -> list[str]:
        """The overrides of the command line that define the run."""
        return list(self.config.hydra.overrides.task)

    @property
    def arguments(self) -> list[str]:
        """What to type after `python -m framework.train` for this run alone, as records and messages show it."""
        sources = self.config.hydra.runtime.config_sources
        options = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
        run_dir = str(self.run_dir).replace("'", r"\'")
        return [*options, *self.overrides, f"hydra.run.dir='{run_dir}'"]

    def __call__(self) -> None:
        """Start or resume the run; the process ends with the task's exit code, or requeued."""
        code: object = 1
        signal.signal(signal.SIGUSR2, _requeue)
        if compat_submitit.is_local():  # submitit ignores it, the run handles it a second later
            signal.signal(signal.SIGTERM, self._leave)
        try:
            self._run()
            code = 0
        except SystemExit as end:
            code = end.code
            raise
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the exit code is decided
            if JobEnvironment().global_rank == 0:
                resumable = {*_STOPPED, OmegaConf.select(self.config, "runtime.exit_code")}
                record_exit(self.run_dir, code, is_failure=code not in resumable)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """End resumably before anything has begun; a Slurm job waits until it is killed, and is then requeued."""
        sys.exit(OmegaConf.select(self.config, "runtime.exit_code"))

    def _run(self) -> None:
        module, _, name = self.task.partition(":")
        task = getattr(importlib.import_module(module), name)
        setup_globals()
        register_bundle()
        sys.argv[1:] = self.arguments  # submitit's own say nothing about the run
        config = copy.deepcopy(self.config)  # the one that is pickled for the next attempt stays as it is
        try:
            refuse_links(self.run_dir, config.hydra.job.name, config.hydra.output_subdir)
        except ConfigError as error:
            print(f"✗ {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)
        if holds_work(self.run_dir):
            with read_write(config), open_dict(config):
                config.resume = True
        run_task(task, config)


def _requeue(number: int, frame: FrameType | None) -> None:
    """Have this job started again, as the run asks for once it has saved, and end the process."""
    compat_submitit.requeue()
