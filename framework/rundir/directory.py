"""The run directory: its paths and its records."""

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from framework.errors import CheckpointError, ConfigError, DamagedError
from framework.files import is_real_directory, make_directory
from framework.rundir.array_file import read_arrays, write_arrays
from framework.rundir.attempts import AttemptFile, AttemptRecord, Attempts, read_attempts, start_attempt
from framework.rundir.run_record import RunInfo, RunRecord, read_run_info, read_run_record
from framework.rundir.saved_work import holds_work

_DIRECTORIES = ("attempts", "checkpoints", "simulations", "samples", "report", "lease", "wandb", "compile_cache")


class RunDirectory:
    """A run directory's paths and its records of config, versions and attempts."""

    def __init__(self, path: Path) -> None:
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path  # as users type it
        self.path = path
        self.config_path = path / "config.yaml"
        self.info_path = path / "run.json"
        self.simulations_dir = path / "simulations"
        self.checkpoints_dir = path / "checkpoints"
        self.samples_dir = path / "samples"
        self.report_dir = path / "report"
        self.attempts_dir = path / "attempts"
        self.lease_dir = path / "lease"

    def refuse_links(self) -> None:
        """Raise `ConfigError` if one of the run's own directories is a link, whose target is not trusted."""
        own = [self.path / name for name in _DIRECTORIES]
        samples = self.samples_dir.iterdir() if is_real_directory(self.samples_dir) else ()
        for path in [*own, *sorted(samples)]:
            if path.is_symlink():
                raise ConfigError(
                    f"{path}: is a link, expected a directory; replace it by its target, "
                    "or make the whole run directory a link"
                )

    def holds_work(self) -> bool:
        """Return whether the directory has a checkpoint or simulations."""
        return holds_work(self.path)

    def is_empty(self) -> bool:
        """Return whether the directory has nothing except logs."""
        return all(path.suffix == ".log" for path in self.path.glob("*"))

    def remove(self) -> None:
        """Delete the directory; a process that starts a run here meanwhile gets a new directory."""
        aside = self.path.with_name(f".{uuid.uuid4().hex}.tmp")
        self.path.rename(aside)
        shutil.rmtree(aside)

    def began_with(self, resume_from: Path) -> bool:
        """Return whether an earlier attempt has completely copied `resume_from` to here."""
        return self.is_copy_of(resume_from) and bool(self.attempts().numbers) and self.holds_work()

    def is_copy_of(self, resume_from: Path) -> bool:
        """Return whether the directory is a complete or partial copy of `resume_from`."""
        info = self.info()
        return info is not None and info.resumed_from == str(resume_from)

    def info(self) -> RunInfo | None:
        """Return the run's info, or None if it is lost; raises `UnreadableError`."""
        return read_run_info(self.path)

    def record(self, generation: Path | None = None) -> RunRecord:
        """Return the run's record, now or at a checkpoint; raises `CheckpointError` if it is lost."""
        return read_run_record(self.path, generation)

    def attempts(self) -> Attempts:
        """Return the records of all attempts."""
        return read_attempts(self.path)

    def start_attempt(self, record: AttemptRecord, last_sign: float = 0.0) -> AttemptFile:
        """Record the start of an attempt, and the end of the previous one if it died; see `start_attempt`."""
        make_directory(self.attempts_dir)
        return start_attempt(self.path, record, last_sign)

    def results_of(self, config: Mapping[str, Any]) -> str | None:
        """Return the checkpoint from which samples and report were made, if made with the same settings."""
        last = next((a for a in reversed(self.attempts().records) if a.results_of and a.config), None)
        if last is None or last.config is None or not self.samples_dir.is_dir():
            return None
        same = all(_plain(last.config.get(key)) == _plain(config[key]) for key in ("inference", "graph"))
        return last.results_of if same else None

    def write_arrays(self, observed: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> None:
        """Store observations and true values in the run, since their files may move or change."""
        for name, arrays in (("observed", observed), ("truth", truth)):
            write_arrays(self.path / f"{name}.npz", arrays)

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return {node: (num_observations, *event_shape)} for `observed` or `truth`; raises `CheckpointError`."""
        path = self.path / f"{name}.npz"
        try:
            return read_arrays(path)
        except FileNotFoundError:
            raise CheckpointError(
                f"{path}: missing; the run stopped before its first simulation, start it again"
            ) from None
        except DamagedError as error:
            raise DamagedError(f"{error}; +resume=true rewrites it") from error


def source_of(path: Path) -> tuple[RunDirectory, Path | None]:
    """Return the run that `resume_from` names, and the checkpoint if it names one."""
    if path.parent.name != "checkpoints":
        return RunDirectory(path), None
    generation = path.parent / path.readlink().name if path.is_symlink() else path  # `latest`
    return RunDirectory(path.parents[1]), generation.resolve()


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
