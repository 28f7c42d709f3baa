"""The record of a run, from its files, or from its checkpoints if files are lost: these contain the config too."""

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import MANIFEST, Generation, generation_paths
from framework.errors import CheckpointError, DamagedError
from framework.records import build
from framework.rundir.attempts import AttemptRecord, Attempts, read_attempts
from framework.rundir.run_config import INFO_FILE, read_config, read_info
from framework.rundir.timestamps import seconds_of

CONFIG_FILE = "config.json"  # in every checkpoint: the config with which it was trained


@dataclass(frozen=True)
class RunInfo:
    """`run.json`: identity and origin of a run."""

    run_id: str
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    code: dict[str, str] = field(default_factory=dict)
    resumed_from: str | None = None


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint manifest's information about the run and the time."""

    run_id: str
    saved_at: str
    attempt: int = 0  # number of the attempt that saved it
    elapsed_seconds: float = 0.0  # sum over all attempts
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    code: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, generation: Generation) -> "CheckpointInfo":
        """Return the information in a checkpoint's manifest; raises `DamagedError`."""
        content = generation.manifest.get("run")
        return build(cls, content if isinstance(content, dict) else {}, generation.path / MANIFEST)


@dataclass(frozen=True)
class RunRecord:
    """The config of a run, as used by its last attempt, in plain containers, and related records."""

    config: dict[str, Any]
    code: dict[str, str]  # digest of the user's code, by `_target_`
    versions: dict[str, str]
    attempts: list[AttemptRecord]  # the readable ones
    notes: list[str] = field(default_factory=list)  # what could not be read, and what was used instead
    doubt: str = ""  # why the config may differ from the last attempt's


def read_run_record(run_dir: Path, generation: Path | None = None) -> RunRecord:
    """Return the record of a run as of its last attempt, or at a checkpoint.

    Raises `CheckpointError` if its config is lost.
    """
    attempts = read_attempts(run_dir)
    notes = [str(problem) for problem in attempts.problems.values()]
    if generation is not None:
        saved = _read_saved(Generation.open(generation))
        before = [record for record in attempts.records if record.start <= seconds_of(saved.info.saved_at)]
        return saved.record(before, notes)
    last = attempts.last
    if last and last.config is not None and not attempts.problem_of_last:
        return RunRecord(last.config, last.code, last.versions, attempts.records, notes)
    return _recover_record(run_dir, attempts, notes)


def read_run_info(run_dir: Path) -> RunInfo | None:
    """Return the content of `run.json`, or if it is lost, that of the newest checkpoint; None if there is neither.

    Raises `UnreadableError` if it exists and cannot be read now.
    """
    path = run_dir / INFO_FILE
    try:
        return build(RunInfo, read_info(path), path)
    except (FileNotFoundError, DamagedError):
        info = _newest_info(run_dir)
    if info is None:
        return None
    first = next(iter(read_attempts(run_dir).records), None)
    resumed_from = (first.config or {}).get("resume_from") if first else None
    return RunInfo(info.run_id, info.saved_at, info.versions, info.git_commit, info.code, resumed_from)


def _newest_info(run_dir: Path) -> CheckpointInfo | None:
    for path in reversed(generation_paths(run_dir / "checkpoints")):
        with suppress(CheckpointError):
            return CheckpointInfo.of(Generation.open(path))
    return None


@dataclass(frozen=True)
class _Saved:
    generation: Generation
    info: CheckpointInfo
    config: dict[str, Any]

    def record(self, attempts: list[AttemptRecord], notes: list[str]) -> RunRecord:
        return RunRecord(self.config, self.info.code, self.info.versions, attempts, notes)


def _read_saved(generation: Generation) -> _Saved:
    """Return a checkpoint's information about its run; raises `CheckpointError`."""
    info = CheckpointInfo.of(generation)
    config = generation.load(CONFIG_FILE)
    path = generation.path / CONFIG_FILE
    if not isinstance(config, dict):
        raise DamagedError(f"{path}: damaged (not a mapping)")
    try:
        seconds_of(info.saved_at)
    except ValueError as error:
        raise DamagedError(f"{generation.path / MANIFEST}: damaged ({error})") from error
    return _Saved(generation, info, config)


def _iterate_saved(run_dir: Path) -> Iterator[_Saved]:
    """Yield the information in all readable checkpoints, newest first."""
    for path in reversed(generation_paths(run_dir / "checkpoints")):
        with suppress(CheckpointError):
            yield _read_saved(Generation.open(path))


def _recover_record(run_dir: Path, attempts: Attempts, notes: list[str]) -> RunRecord:
    """Return the record from the newest checkpoint or other files, for a last attempt that cannot be read."""
    info = read_run_info(run_dir)
    last = attempts.last
    saved = next(_iterate_saved(run_dir), None)
    is_own = saved and info and saved.info.run_id == info.run_id  # if not, it was copied from another run
    if saved and is_own and saved.info.attempt >= max(attempts.numbers, default=0):
        return saved.record(attempts.records, [*notes, f"its config was read from {saved.generation.path}"])
    doubt = str(attempts.problem_of_last or "")
    if last and last.config is not None:
        return RunRecord(last.config, last.code, last.versions, attempts.records, notes, doubt)
    try:
        config = read_config(run_dir / "config.yaml")
    except (FileNotFoundError, DamagedError) as error:
        if saved is None:
            reason = error if isinstance(error, DamagedError) else f"{run_dir / 'config.yaml'}: missing"
            raise CheckpointError(f"{reason}, and the config is stored nowhere else; is this a run?") from None
        return dataclasses.replace(saved.record(attempts.records, notes), doubt=doubt)
    if info and info.resumed_from is None and attempts.numbers == [1]:
        doubt = ""  # the first attempt used config.yaml
    code, versions = (info.code, info.versions) if info else ({}, {})
    return RunRecord(config, code, versions, attempts.records, notes, doubt)
