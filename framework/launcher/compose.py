"""Composing the jobs of a sweep, each with its whole configuration: nothing is composed later."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from framework.compat.hydra import current_config
from framework.errors import ConfigError
from framework.launcher.launcher_job import Job
from framework.launcher.loader import SweepLoader


def compose_jobs(
    loader: SweepLoader, task: str, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> list[Job]:
    """Return one job for each list of overrides; `first` is the number of the first one within the sweep."""
    jobs = []
    for number, overrides in enumerate(job_overrides, first):
        composed = loader.take(config, list(overrides))
        with read_write(composed), open_dict(composed):
            composed.hydra.job.id, composed.hydra.job.num = str(number), number
        run_dir = _run_dir(composed)
        with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = run_dir
        jobs.append(Job(composed, task))
    return jobs


def task_name(function: TaskFunction) -> str:
    """Return where a job finds the function, as `module:name`; pickled by value it would lose its module."""
    module = function.__module__
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if spec is None:
            raise ConfigError(f"{sys.argv[0]}: jobs cannot import a script; start it as python -m MODULE")
        module = spec.name
    return f"{module}:{function.__qualname__}"


def sweep_dir(config: DictConfig) -> Path:
    """Return the directory of the sweep's own files."""
    return Path(str(OmegaConf.select(config, "hydra.sweep.dir"))).absolute()


def _run_dir(composed: DictConfig) -> str:
    """Return the absolute run directory, by the job's own configuration as in Hydra's other launchers."""
    with current_config(composed):
        directory = str(OmegaConf.select(composed, "hydra.sweep.dir"))
        folder = str(OmegaConf.select(composed, "hydra.sweep.subdir"))
        return os.path.abspath(os.path.join(directory, folder))  # noqa: PTH100, PTH118


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """Return each job once; raises `ConfigError` where different ones would share a run directory."""
    by_dir: dict[Path, Job] = {}
    for job in jobs:
        other = by_dir.setdefault(job.run_dir, job)
        if differing := set(job.overrides) ^ set(other.overrides):
            raise ConfigError(
                f"{' '.join(sorted(differing))}: two jobs of the sweep would share {job.run_dir}, "
                "since a resumed run may change this key; sweep name=... as well, or leave it out"
            )
    return list(by_dir.values())
