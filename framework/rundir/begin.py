"""Preparation of a run directory for an attempt that owns it, without losing any existing data."""

import dataclasses
import logging
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from framework.errors import CheckpointError, DamagedError, ResumeRefusedError
from framework.files import is_real_directory, make_directory, remove_unfinished, sync_directory
from framework.records import write_record
from framework.rundir.directory import RunDirectory, source_of
from framework.rundir.metrics import copy_metrics
from framework.rundir.run_config import read_config, read_info, write_config
from framework.rundir.run_record import RunInfo, RunRecord, read_run_info
from framework.rundir.timestamps import now
from framework.versions import git_commit

log = logging.getLogger(__name__)


def begin_run(
    directory: RunDirectory,
    record: RunRecord,
    resume_from: Path | None = None,
    overwrite: bool = False,
    requeued: bool = False,
) -> RunInfo:
    """Prepare the directory for an attempt with the record's config; return the run's info.

    `overwrite` moves an existing run aside, `resume_from` is copied into the empty directory, and a `requeued`
    attempt keeps the config of an earlier one that ended before it had saved anything. Lost records are rewritten.
    """
    if overwrite and directory.holds_work():
        _move_aside(directory)
    for path in (directory.path, directory.attempts_dir):
        remove_unfinished(path)
    if resume_from is not None and not directory.began_with(resume_from):
        _copy_run(resume_from, directory)
    if not directory.holds_work() and not (requeued and directory.config_path.exists()):
        shutil.rmtree(directory.simulations_dir, ignore_errors=True)  # has no simulations, but maybe an index
        _write_records(directory, record)
    return _restore_records(directory)


def _write_records(directory: RunDirectory, record: RunRecord, resumed_from: str | None = None) -> None:
    make_directory(directory.path)
    info = RunInfo(uuid.uuid4().hex[:16], now(), record.versions, git_commit(), record.code, resumed_from)
    write_record(directory.info_path, dataclasses.asdict(info))
    write_config(directory.config_path, record.config)


def _restore_records(directory: RunDirectory) -> RunInfo:
    """Rewrite `run.json` and `config.yaml` if they are missing or damaged, with a warning; return the info.

    Raises `CheckpointError` if they cannot be read now, or if their content is lost.
    """
    info = read_run_info(directory.path)
    try:
        read_info(directory.info_path)
    except (FileNotFoundError, DamagedError) as error:
        source = "the newest checkpoint" if info else "scratch, with a new run id"
        info = info or RunInfo(uuid.uuid4().hex[:16], now(), git_commit=git_commit())
        _set_aside(directory.info_path, error, source)
        write_record(directory.info_path, dataclasses.asdict(info))
    try:
        read_config(directory.config_path)
    except (FileNotFoundError, DamagedError) as error:
        config = directory.record().config
        _set_aside(directory.config_path, error, "the last attempt's config")
        write_config(directory.config_path, config)
    assert info is not None, "read or rewritten above"
    return info


def _set_aside(path: Path, error: Exception, source: str) -> None:
    with suppress(FileNotFoundError):
        path.rename(path.with_name(f"{path.name}.damaged"))
    what = f"{path}: missing" if isinstance(error, FileNotFoundError) else str(error)
    log.warning("⚠ %s; rewritten from %s", what, source)


def _copy_run(path: Path, directory: RunDirectory) -> None:
    """Copy the content and config of another run, or of one of its checkpoints."""
    source, generation = source_of(path)
    _write_records(directory, source.record(generation), resumed_from=str(path))
    if generation:
        _copy(generation, directory.checkpoints_dir / generation.name.removeprefix("emergency-"))
    else:
        _copy(source.checkpoints_dir, directory.checkpoints_dir)
    _copy(source.simulations_dir, directory.simulations_dir)
    copy_metrics(source.path, directory.path)


def _copy(source: Path, target: Path) -> None:
    """Copy a directory, if it exists and was not copied before; a partial copy has a temporary name."""
    if target.exists() or not is_real_directory(source):
        return
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:16]}.tmp")
    make_directory(target.parent)
    try:
        shutil.copytree(source, temporary, symlinks=True)
        for root, _, names in os.walk(temporary, topdown=False):
            for name in names:
                _sync(Path(root, name))
            sync_directory(Path(root))
    except shutil.Error as error:  # a list of (source, target, reason)
        file, _, reason = error.args[0][0]
        raise CheckpointError(f"{file}: cannot be copied ({reason}); fix this, then rerun the command") from error
    temporary.rename(target)
    sync_directory(target.parent)


def _sync(path: Path) -> None:
    if not path.is_symlink():
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move_aside(directory: RunDirectory) -> None:
    number = 1
    while os.path.lexists(aside := directory.path.with_name(f"{directory.path.name}.old-{number}")):
        number += 1
    directory.path.rename(aside)
    directory.path.mkdir(exist_ok=True)
    sync_directory(directory.path.parent)
    if (lease_dir := aside / directory.lease_dir.name).is_dir():  # the lease belongs to the path
        try:
            lease_dir.rename(directory.lease_dir)
        except OSError as error:
            raise ResumeRefusedError(f"{directory.path}: another process has meanwhile started a run here") from error
