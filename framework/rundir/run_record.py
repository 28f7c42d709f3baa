"""What a run is, told by its records, and by its checkpoints where records are lost: these hold its config, too."""

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import MANIFEST, Generation, generation_paths
from framework.errors import CheckpointError, DamagedError
from framework.records import build, read_record
from framework.rundir.attempts import AttemptRecord, Attempts, read_attempts
from framework.rundir.run_config import read_config
from framework.rundir.timestamps import seconds_of

CONFIG_FILE = "config.json"  # in every checkpoint: the config that it was trained with


@dataclass(frozen=True)
class RunInfo:
    """`run.json`: what a run is and what it began with."""

    run_id: str
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    code: dict[str, str] = field(default_factory=dict)
    resumed_from: str | None = None


@dataclass(frozen=True)
class CheckpointInfo:
    """What the manifest of a checkpoint says of the run and the moment."""

    run_id: str
    saved_at: str
    attempt: int = 0  # the number of the one that saved it
    elapsed_seconds: float = 0.0  # of all attempts
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    code: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, generation: Generation) -> "CheckpointInfo":
        """Return what a checkpoint says; raises `DamagedError`."""
        content = generation.manifest.get("run")
        return build(cls, content if isinstance(content, dict) else {}, generation.path / MANIFEST)


@dataclass(frozen=True)
class RunRecord:
    """What a run is, as its last attempt went on with it; the config is in plain containers."""

    config: dict[str, Any]
    code: dict[str, str]  # digest of the user's code, by `_target_`
    versions: dict[str, str]
    attempts: list[AttemptRecord]  # all that can be read
    notes: list[str] = field(default_factory=list)  # what could not be read, and where it was found instead
    doubt: str = ""  # why the config may not be the one that the last attempt went on with


def read_run_record(run_dir: Path, generation: Path | None = None) -> RunRecord:
    """Return what a run is now, by its last attempt, or what it was at a checkpoint.

    Raises `CheckpointError` where nothing tells its config.
    """
    attempts = read_attempts(run_dir)
    notes = [str(problem) for problem in attempts.problems.values()]
    if generation is not None:
        saved = _saved(Generation.open(generation))
        before = [record for record in attempts.records if record.start <= seconds_of(saved.info.saved_at)]
        return saved.record(before, notes)
    last = attempts.last
    if last and last.config is not None and not attempts.problem_of_last:
        return RunRecord(last.config, last.code, last.versions, attempts.records, notes)
    return _recovered(run_dir, attempts, notes)


def read_run_info(run_dir: Path) -> RunInfo | None:
    """Return what `run.json` holds, or what the newest checkpoint says if it is lost; None where neither tells.

    Raises `UnreadableError` where it is there and cannot be read now.
    """
    path = run_dir / "run.json"
    try:
        return build(RunInfo, read_record(path), path)
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


def _saved(generation: Generation) -> _Saved:
    """Return what a checkpoint says of its run; raises `CheckpointError`."""
    info, config = CheckpointInfo.of(generation), generation.load(CONFIG_FILE)
    path = generation.path / CONFIG_FILE
    if not isinstance(config, dict):
        raise DamagedError(f"{path}: damaged (not a mapping)")
    try:
        seconds_of(info.saved_at)
    except ValueError as error:
        raise DamagedError(f"{generation.path / MANIFEST}: damaged ({error})") from error
    return _Saved(generation, info, config)


def _all_saved(run_dir: Path) -> Iterator[_Saved]:
    """Yield what the checkpoints say that can be read, the newest first."""
    for path in reversed(generation_paths(run_dir / "checkpoints")):
        with suppress(CheckpointError):
            yield _saved(Generation.open(path))


def _recovered(run_dir: Path, attempts: Attempts, notes: list[str]) -> RunRecord:
    """Return what the run is where its last attempt does not tell: by its newest checkpoint, or what is next to it."""
    info, last = read_run_info(run_dir), attempts.last
    saved = next(_all_saved(run_dir), None)
    is_own = saved and info and saved.info.run_id == info.run_id  # or else it was copied from another run
    if saved and is_own and saved.info.attempt >= max(attempts.numbers, default=0):
        return saved.record(attempts.records, [*notes, f"its config is that of {saved.generation.path}"])
    doubt = str(attempts.problem_of_last or "")
    if last and last.config is not None:
        return RunRecord(last.config, last.code, last.versions, attempts.records, notes, doubt)
    try:
        config = read_config(run_dir / "config.yaml")
    except (FileNotFoundError, DamagedError) as error:
        if saved is None:
            reason = error if isinstance(error, DamagedError) else f"{run_dir / 'config.yaml'}: missing"
            raise CheckpointError(f"{reason}, and nothing else tells the run's config; is this a run?") from None
        return dataclasses.replace(saved.record(attempts.records, notes), doubt=doubt)
    if info and info.resumed_from is None and attempts.numbers == [1]:
        doubt = ""  # the first attempt went on with what config.yaml holds
    code, versions = (info.code, info.versions) if info else ({}, {})
    return RunRecord(config, code, versions, attempts.records, notes, doubt)
