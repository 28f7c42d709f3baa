"""The run that an attempt resumes, if there is one and nothing would be overwritten."""

import os
from dataclasses import dataclass
from pathlib import Path

from framework.checkpoint.manifest import Generation, newest_generation
from framework.config.schema import Config
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError
from framework.rundir.directory import RunDirectory, source_of
from framework.rundir.run_record import RunRecord


@dataclass(frozen=True)
class Source:
    """A run, its newest or a named checkpoint, and the run's record at that time; not yet verified."""

    directory: RunDirectory
    generation: Generation | None
    record: RunRecord


def find_source(directory: RunDirectory, config: Config) -> Source | None:
    """Return the run to resume, or None for a new one; raises if that would overwrite work or is impossible."""
    if config.resume_from is not None:
        return _resume_from(directory, Path(config.resume_from), config.overwrite)
    if config.overwrite:
        return None
    if not directory.holds_work():
        if config.resume and not directory.config_path.exists():
            raise CheckpointError(f"{directory.path}: nothing to resume here; start without resume=true")
        return None
    if not config.resume:
        raise ResumeRefusedError(
            f"{directory.path} already contains a run. Resume it with +resume=true, choose another name=..., "
            "or pass overwrite=true, which moves it aside"
        )
    return _newest(directory)


def _resume_from(directory: RunDirectory, path: Path, overwrite: bool) -> Source:
    """Return the run or checkpoint that `resume_from` names, or the run here that started from it."""
    source, generation = source_of(path)
    source.refuse_links()
    if not os.path.isdir(path) or not source.holds_work():  # noqa: PTH112  # Path.is_dir raises for a long name
        raise CheckpointError(f"resume_from={path}: contains no run")
    if source.path.resolve() == directory.path.resolve():
        hint = "set name=..." if generation else "use +resume=true, or set name=..."
        raise ConfigError(f"resume_from={path}: is in the run directory itself; {hint}")
    if not overwrite and directory.holds_work():
        if directory.began_with(path):
            return _newest(directory)
        if not directory.is_copy_of(path):  # if it is, copying was interrupted
            raise ResumeRefusedError(
                f"{directory.path} already contains a run that did not start from {path}. Resume it with +resume=true, "
                "choose another name=..., or pass overwrite=true, which moves it aside"
            )
    if generation is None:
        return _newest(source)
    return Source(source, Generation.open(generation), source.record(generation))


def _newest(directory: RunDirectory) -> Source:
    return Source(directory, newest_generation(directory.checkpoints_dir), directory.record())
