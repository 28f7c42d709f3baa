"""The run directory: where everything lies, and what its records say."""

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
    """Paths of a run directory, and its records of config, versions and attempts."""

    def __init__(self, path: Path) -> None:
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path  # as people type it
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
        """Raise `ConfigError` where one of the run's own directories is a link: it may lead anywhere."""
        own = [self.path / name for name in _DIRECTORIES]
        samples = self.samples_dir.iterdir() if is_real_directory(self.samples_dir) else ()
        for path in [*own, *sorted(samples)]:
            if path.is_symlink():
                raise ConfigError(
                    f"{path}: is a link, expected a directory; a run's own directories are never links: "
                    "put there what it leads to, or make the whole run directory a link"
                )

    def holds_work(self) -> bool:
        """Tell whether a checkpoint or a simulation is here."""
        return holds_work(self.path)

    def is_empty(self) -> bool:
        """Tell whether nothing but logs is here."""
        return all(path.suffix == ".log" for path in self.path.glob("*"))

    def remove(self) -> None:
        """Delete all that is here; what another process begins meanwhile begins in a new directory."""
        aside = self.path.with_name(f".{uuid.uuid4().hex}.tmp")
        self.path.rename(aside)
        shutil.rmtree(aside)

    def began_with(self, resume_from: Path) -> bool:
        """Tell whether an earlier attempt here has copied all of `resume_from`."""
        return self.is_copy_of(resume_from) and bool(self.attempts().numbers) and self.holds_work()

    def is_copy_of(self, resume_from: Path) -> bool:
        """Tell whether what is here, whole or in part, is a copy of `resume_from`."""
        info = self.info()
        return info is not None and info.resumed_from == str(resume_from)

    def info(self) -> RunInfo | None:
        """Return what the run is and began with, None where nothing tells; raises `UnreadableError`."""
        return read_run_info(self.path)

    def record(self, generation: Path | None = None) -> RunRecord:
        """Return what the run is now, or was at a checkpoint; raises `CheckpointError` where nothing tells."""
        return read_run_record(self.path, generation)

    def attempts(self) -> Attempts:
        """Return the records of all attempts."""
        return read_attempts(self.path)

    def start_attempt(self, record: AttemptRecord, last_sign: float = 0.0) -> AttemptFile:
        """Record the start of an attempt. The one before it may have died, with `last_sign` of its life."""
        make_directory(self.attempts_dir)
        return start_attempt(self.path, record, last_sign)

    def results_of(self, config: Mapping[str, Any]) -> str | None:
        """Return the checkpoint that samples and report were made of, if they were made with the same settings."""
        last = next((a for a in reversed(self.attempts().records) if a.results_of and a.config), None)
        if last is None or last.config is None or not self.samples_dir.is_dir():
            return None
        same = all(_plain(last.config.get(key)) == _plain(config[key]) for key in ("inference", "graph"))
        return last.results_of if same else None

    def write_arrays(self, observed: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> None:
        """Keep observations and true values with the run: their files may move or change."""
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
            raise DamagedError(f"{error}; +resume=true writes it again") from error


def source_of(path: Path) -> tuple[RunDirectory, Path | None]:
    """Return the run that `resume_from` names, and the checkpoint if it names one of it."""
    if path.parent.name != "checkpoints":
        return RunDirectory(path), None
    generation = path.parent / path.readlink().name if path.is_symlink() else path  # `latest`
    return RunDirectory(path.parents[1]), generation.resolve()


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
