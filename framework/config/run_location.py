"""Checks that a run has a directory of its own, so that changing one run never affects another."""

import os
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.config.overrides import last_of
from framework.errors import ConfigError

_MAX_NAME = 200  # bytes; file systems allow 255
_OF_A_RUN = "run.json"


def check_name(name: Any) -> None:
    """Check that `name` is valid for a directory below `outputs`; raises `ConfigError`."""
    if not isinstance(name, str):
        return  # the schema reports the wrong type
    parts = PurePath(name).parts
    if not name.strip() or not name.isprintable() or not parts or ".." in parts or PurePath(name).is_absolute():
        shown = name if name.isprintable() else repr(name)
        raise ConfigError(f"name={shown}: expected the name of a directory below outputs, such as mine or test/mine")


def check_directory(composed: DictConfig, key: str) -> Path:
    """Return the composed directory of the run (`key` is hydra.run.dir) or the sweep (hydra.sweep.dir).

    Raises `ConfigError` if the run cannot have that directory to itself.
    """
    overrides: Any = OmegaConf.to_container(composed.hydra.overrides.hydra, resolve=False)
    own = last_of(overrides, key) is not None
    try:
        name = OmegaConf.select(composed, "name")
        check_name(name)
        text = str(OmegaConf.select(composed, key))
        _check_files(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or key}: {str(error).splitlines()[0]}") from error
    given, here = f"{key}={text}" if own else f"name={name}", Path.cwd()
    path = Path(os.path.normpath(here / text))
    if key == "hydra.run.dir" and here.is_relative_to(path):
        raise ConfigError(f"{given}: contains the current directory; expected a directory only for this run")
    try:
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{given}: is a file; expected a directory, or a name for a new one")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{given}: cannot be used as a directory ({reason})") from error
    _check_neighbours(path, given, here, is_run=key == "hydra.run.dir")
    return path


def _check_neighbours(path: Path, given: str, here: Path, is_run: bool) -> None:
    """Check that no other run's directory contains this one or lies below it."""
    around = [p for p in path.parents if not here.is_relative_to(p)]
    if other := next((p for p in around if (p / _OF_A_RUN).exists()), None):
        raise ConfigError(f"{given}: is inside another run's directory, {_short(other, here)}; choose another one")
    below = next(path.glob(f"*/{_OF_A_RUN}"), None) if is_run and not (path / _OF_A_RUN).exists() else None
    if below:
        other = _short(below.parent, here)
        raise ConfigError(f"{given}: contains other runs, such as {other}; a run needs a directory of its own")


def _check_files(composed: DictConfig) -> None:
    """Check the names of the files that Hydra writes into the directory."""
    job_name, subdir = str(composed.hydra.job.name), composed.hydra.output_subdir
    if PurePath(job_name).name != job_name or not job_name.isprintable() or len(job_name.encode()) > _MAX_NAME:
        raise ConfigError(f"hydra.job.name={job_name}: expected a name for the run's log file, such as train")
    if subdir is not None and os.path.normpath(str(subdir)) == ".":
        raise ConfigError(f"hydra.output_subdir={subdir}: the run writes its config.yaml there; use null or .hydra")


def _short(path: Path, here: Path) -> Path:
    return path.relative_to(here) if path.is_relative_to(here) else path
