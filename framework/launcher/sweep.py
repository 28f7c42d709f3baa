"""A sweep: the jobs that have not finished are submitted and monitored until they end, and all are summed up."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import TaskFunction
from omegaconf import DictConfig

from framework.config.parse import parse_config
from framework.errors import ConfigError, SweepError
from framework.files import make_directory
from framework.launcher.compose import compose_jobs, distinct, sweep_dir, task_name
from framework.launcher.jobs import Executor, Planned, known_jobs, plan_jobs, write_sweep_file
from framework.launcher.launcher_config import LocalConfig, SlurmConfig, parse_launcher
from framework.launcher.launcher_job import Job
from framework.launcher.loader import SweepLoader
from framework.launcher.monitor import monitor
from framework.launcher.row import Row
from framework.launcher.sweep_summary import write_summary
from framework.rundir.run_status import RunState

log = logging.getLogger(__name__)


class Sweep:
    """What a launcher does, from Hydra's lists of overrides to its `JobReturn`s."""

    def __init__(
        self, kind: str, settings: Mapping[str, Any], loader: SweepLoader, task: TaskFunction, config: DictConfig
    ) -> None:
        self.kind = kind
        self.loader = loader
        self.task = task_name(task)
        self.config = config
        self.settings = parse_launcher(SlurmConfig if kind == "slurm" else LocalConfig, settings)
        self.waits = getattr(self.settings, "wait", True)
        sweeper = config.hydra.sweeper
        self._rows: dict[Path, Row] = {}  # of all batches so far
        self.is_grid = sweeper["_target_"].rpartition(".")[2] == "BasicSweeper"
        if self.is_grid and sweeper.get("max_batch_size") is not None:
            key = "array_parallelism" if kind == "slurm" else "num_parallel"
            raise ConfigError(f"hydra.sweeper.max_batch_size: leave it out; hydra.launcher.{key} limits the jobs")
        if not self.is_grid and not self.waits:
            raise ConfigError("hydra.launcher.wait=false: this sweeper needs the results of its jobs; leave it out")

    def check(self, job_overrides: Sequence[Sequence[str]]) -> None:
        """Raise `ConfigError` if anything is wrong with these jobs; nothing is left behind."""
        setup_globals()
        for job in compose_jobs(self.loader, self.task, self.config, job_overrides, 0):
            parse_config(job.config)

    def launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run the jobs that have not finished; one that fails is a failed `JobReturn`, and the others continue."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        self.directory = sweep_dir(self.config)
        jobs = compose_jobs(self.loader, self.task, self.config, job_overrides, first)
        for job in jobs:  # mistakes are reported now, not after hours in the queue, and leave nothing behind
            if parse_config(job.config).runtime.requeue == "chain":
                raise ConfigError("runtime.requeue=chain: not for the jobs of a sweep; expected auto or exit_code")
        unique = distinct(jobs)
        if not self.is_grid and not self._rows:  # a search has more runs than this command asks for
            known = [job for job in known_jobs(self.directory) if Path(job["run_dir"]).is_dir()]
            self._rows = {Path(job["run_dir"]): Row.known(job) for job in known}
        executor = self._executor()
        planned = plan_jobs(unique, executor, self.kind, self.settings.retry_failed)
        self._submit(executor, [p for p in planned if p.action == "submit"])
        write_sweep_file(self.directory, self.kind, planned)
        if not self.waits:
            where = self.directory / "sweep.json"
            log.info("The sweep's jobs are listed in %s; without wait=false, the same command monitors them", where)
            return [_returned(job, JobStatus.COMPLETED, None) for job in jobs]
        monitor(planned, executor)
        write_sweep_file(self.directory, self.kind, planned)  # with the ids of jobs that started since
        self._rows |= {p.job.run_dir: Row.of(p) for p in planned}
        write_summary(self.directory, list(self._rows.values()))
        return self._results(jobs)

    def _submit(self, executor: Executor, planned: Sequence[Planned]) -> None:
        if not planned:
            return
        began = time.perf_counter()
        for p, job in zip(planned, executor.submit([p.job for p in planned]), strict=True):
            p.submitted = job
        if self.kind == "slurm":
            log.info("Submitted %d jobs in %.1f s", len(planned), time.perf_counter() - began)

    def _executor(self) -> Executor:
        folder = self.directory / "jobs"
        make_directory(folder)
        if self.kind == "slurm":
            from framework.launcher.slurm_executor import SlurmJobs

            return SlurmJobs(self.settings, folder, name=str(self.config.get("name", "sweep")))
        from framework.launcher.local_executor import LocalJobs

        return LocalJobs(self.settings, folder)

    def _results(self, jobs: Sequence[Job]) -> list[JobReturn]:
        """Return the loss of each job; those that have not finished share one error that names them all."""
        rows = [self._rows[job.run_dir] for job in jobs]
        bad = {row.name: row for row in rows if row.state is not RunState.FINISHED}
        lines = "".join(f"\n  {name}: {': '.join(filter(None, (r.state, r.reason)))}" for name, r in bad.items())
        any_failed = any(row.state is RunState.FAILED for row in bad.values())
        error = SweepError(f"{len(bad)} of {len(rows)} jobs did not finish{lines}", exit_code=1 if any_failed else 99)
        returned = []
        for job, row in zip(jobs, rows, strict=True):
            if row.state is RunState.FINISHED:
                returned.append(_returned(job, JobStatus.COMPLETED, row.best_loss))
            else:
                returned.append(_returned(job, JobStatus.FAILED, error))
        return returned


def _returned(job: Job, status: JobStatus, value: Any) -> JobReturn:
    result = JobReturn(overrides=job.overrides, hydra_cfg=job.config, status=status)
    result.return_value = value
    return result
