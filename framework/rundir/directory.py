"""The files of one run, and the rule that nothing there is overwritten by accident."""

import json
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import yaml

from framework.errors import CheckpointError, ResumeRefusedError
from framework.rundir.attempts import (
    Attempt,
    attempt_paths,
    close_lost,
    manifests,
    moment,
    now,
    read_attempts,
    saved_by_lost,
    saved_with,
    write_atomically,
)
from framework.rundir.metrics import copy_metrics
from framework.versions import origin


@dataclass(frozen=True)
class RunRecord:
    """What a run is, as its last attempt went on with it; the config is in plain containers."""

    config: dict[str, Any]
    code: dict[str, str]  # digest of the user's code, by `_target_`
    versions: dict[str, str]
    attempts: list[dict[str, Any]]  # all of them, as recorded


class RunDirectory:
    """Paths of a run directory, and its records of config, versions and attempts."""

    def __init__(self, path: Path) -> None:
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path  # as people type it
        self.path = path
        self.config_path = path / "config.yaml"
        self.simulations_dir = path / "simulations"
        self.checkpoints_dir = path / "checkpoints"
        self.samples_dir = path / "samples"
        self.report_dir = path / "report"
        self.attempts_dir = path / "attempts"
        self.lease_dir = path / "lease"

    def open(self, record: RunRecord, resume_from: Path | None, overwrite: bool, pinned: bool) -> None:
        """Prepare the directory for an attempt with the record's config.

        `overwrite` moves a run that is here aside, `resume_from` is copied into the empty directory,
        and `pinned` keeps the config of an earlier attempt that ended before it had anything to keep.
        """
        if overwrite and self.holds_work():
            self._move_aside()
        if resume_from is not None and not self.began_with(resume_from):
            self._copy_from(resume_from)
        if not self.holds_work() and not (pinned and self.config_path.exists()):
            shutil.rmtree(self.simulations_dir, ignore_errors=True)  # holds no simulation, perhaps an index
            self._pin(record)

    def holds_work(self) -> bool:
        """Tell whether a checkpoint or a simulation is here."""
        return any(manifests(self.path)) or any(self.simulations_dir.glob("*.npy"))

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
        return self.is_copy_of(resume_from) and bool(self.attempts()) and self.holds_work()

    def is_copy_of(self, resume_from: Path) -> bool:
        """Tell whether what is here, whole or in part, is a copy of `resume_from`."""
        return self.facts().get("resumed_from") == str(resume_from)

    def record(self, generation: Path | None = None) -> RunRecord:
        """Return what the run is now, by its last attempt or else its first start, or what it was at a checkpoint."""
        attempts, first = self.attempts(), self.facts()
        saved = saved_with(generation) if generation else saved_by_lost(self.path)
        if saved:
            attempts = [a for a in attempts if moment(a["start"]) <= saved[1]]
        last = next((a for a in reversed(attempts) if "config" in a), None)
        config = saved[0] if saved else last["config"] if last else self.pinned_config()
        code, versions = ((last or first).get(name, {}) for name in ("code", "versions"))
        return RunRecord(config, code, versions, attempts)

    def pinned_config(self) -> dict[str, Any]:
        """Return the config of the run's first start, as plain containers."""
        try:
            text = self.config_path.read_text(encoding="utf-8")
            if self.facts().get("config_digest", _digest(text)) != _digest(text):
                raise ValueError("it is not what the run has written")
            return dict(yaml.safe_load(text))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise CheckpointError(f"{self.config_path}: cannot be read ({error}); is this a run directory?") from error

    def pin(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`; what the run's first start wrote is never changed, only mended."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        facts = {**self.facts(), "config_digest": _digest(text)}
        write_atomically(self.config_path, text)
        write_atomically(self.path / "run.json", json.dumps(facts, indent=1))

    def facts(self) -> dict[str, Any]:
        """Return what `run.json` holds, nothing if it cannot be read."""
        with suppress(OSError, ValueError, TypeError):
            return dict(json.loads((self.path / "run.json").read_text(encoding="utf-8")))
        return {}

    def run_id(self) -> str:
        """Return the run's id, which experiment trackers know it by; a lost run.json is written again."""
        files = [self.path / "run.json", *reversed(manifests(self.path))]
        for path in files:
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                facts = json.loads(path.read_text(encoding="utf-8"))
                found = str(facts.get("run", facts)["run_id"])
                if path != files[0]:
                    self._describe(found)
                return found
        return self._describe(uuid.uuid4().hex[:16])

    def write_arrays(self, observed: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> None:
        """Keep observations and true values with the run: their files may move or change."""
        for name, arrays in (("observed", observed), ("truth", truth)):
            temporary = self.path / f".{name}.tmp.npz"
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
            temporary.replace(self.path / f"{name}.npz")

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return {node: (num_observations, *event_shape)} for `observed` or `truth`."""
        path = self.path / f"{name}.npz"
        if not path.is_file():
            raise CheckpointError(f"{path}: missing; the run stopped before its first simulation, start it again")
        with np.load(path) as file:
            return {node: file[node] for node in file.files}

    def start_attempt(self, facts: Mapping[str, Any], last_sign: float = 0.0) -> Attempt:
        """Record the start of an attempt, with what it was told and goes on with.

        The one before it may have died, with `last_sign` of its life.
        """
        self.attempts_dir.mkdir(parents=True, exist_ok=True)
        before = attempt_paths(self.path)
        if before:
            close_lost(self.path, before[-1], last_sign)
        number = int(before[-1].stem) + 1 if before else 1
        return Attempt(self.attempts_dir / f"{number:03d}.json", {**origin(), **facts})

    def results_of(self, config: Mapping[str, Any]) -> str | None:
        """Return the checkpoint that samples and report were made of, if they were made with the same settings."""
        last = next((a for a in reversed(self.attempts()) if "results_of" in a and "config" in a), None)
        if last is None or not self.samples_dir.is_dir():
            return None
        same = all(last["config"][key] == config[key] for key in ("inference", "graph"))
        return str(last["results_of"]) if same else None

    def attempts(self) -> list[dict[str, Any]]:
        """Return the records of all attempts that can be read."""
        return read_attempts(self.path)

    def _pin(self, record: RunRecord, **facts: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        facts |= {"created": now(), **origin(), "versions": record.versions, "code": record.code}
        write_atomically(self.path / "run.json", json.dumps({"run_id": uuid.uuid4().hex[:16], **facts}, indent=1))
        self.pin(record.config)

    def _describe(self, run_id: str) -> str:
        facts = {"created": now(), **origin(), **self.facts(), "run_id": run_id}
        write_atomically(self.path / "run.json", json.dumps(facts, indent=1))
        return run_id

    def _copy_from(self, path: Path) -> None:
        """Begin with what another run has, or with one checkpoint of it, and with its config."""
        source, generation = source_of(path)
        self._pin(source.record(generation), resumed_from=str(path))
        if generation:
            _copy(generation, self.checkpoints_dir / generation.name.removeprefix("emergency-"))
        else:
            _copy(source.checkpoints_dir, self.checkpoints_dir)
        _copy(source.simulations_dir, self.simulations_dir)
        copy_metrics(source.path, self.path)

    def _move_aside(self) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(aside)
        self.path.mkdir(exist_ok=True)
        if (lease_dir := aside / self.lease_dir.name).is_dir():  # it stays with the path that it is for
            try:
                lease_dir.rename(self.lease_dir)
            except OSError as error:
                raise ResumeRefusedError(f"{self.path}: another process has begun a run here meanwhile") from error


def source_of(path: Path) -> tuple[RunDirectory, Path | None]:
    """Return the run that `resume_from` names, and the checkpoint if it names one of it."""
    if path.parent.name == "checkpoints":
        return RunDirectory(path.parents[1]), path.resolve()
    return RunDirectory(path), None


def _copy(source: Path, target: Path) -> None:
    """Copy a file or directory, if it exists and was not copied before; what is half copied has another name."""
    temporary = target.with_name(f"{target.name}.tmp")
    if target.exists() or not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            shutil.copytree(source, temporary, symlinks=True)
        except shutil.Error as error:  # a list of (source, target, reason)
            file, _, reason = error.args[0][0]
            raise CheckpointError(f"{file}: cannot be copied ({reason}); mend this, then the same command") from error
    else:
        shutil.copy2(source, temporary)
    temporary.rename(target)


def _digest(text: str) -> str:
    return xxhash.xxh3_128(text.encode()).hexdigest()
