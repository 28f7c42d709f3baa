"""The files of one run, and the rule that nothing there is overwritten by accident."""

import json
import platform
import re
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from framework.attempt import Attempt, attempt_paths, close_lost, now, read_attempt, write_atomically
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError

# What may change on resume: it changes no number of the training.
_FREE = re.compile(
    r"(loop\.num_epochs|runtime|inference|tracking|simulation\.(workers|max_invalid_fraction)|device|name|resume|resume_from|overwrite"
    r"|graph\.\w+\.(inference|loop\.num_epochs|observed|truth))(\.|$)"
)


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

    def open(self, container: Mapping[str, Any]) -> None:
        """Prepare the directory for this attempt, by `resume`, `resume_from` and `overwrite` of the config.

        Raises `ResumeRefusedError` where going on would overwrite work or break the run.
        """
        if container["resume_from"] is not None:
            self._copy_from(Path(container["resume_from"]), container)
        elif container["overwrite"] and self.holds_work():
            self._move_aside()
        if not self.holds_work():
            if container["resume"] and not self.config_path.exists():
                raise CheckpointError(f"{self.path}: nothing to resume here; start without resume=true")
            self._pin(container)
            return
        if not (container["resume"] or container["resume_from"]):
            raise ResumeRefusedError(
                f"{self.path} already holds a run. Go on with it: +resume=true · start another: name=... · "
                "move it aside and start afresh: overwrite=true"
            )
        self._check_unchanged(container)

    def holds_work(self) -> bool:
        """Tell whether a checkpoint or a simulation is here."""
        return any(self.checkpoints_dir.glob("*/manifest.json")) or any(self.simulations_dir.glob("*.npy"))

    def pinned_config(self) -> dict[str, Any]:
        """Return the config of the run's first start, as plain containers."""
        try:
            return yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise CheckpointError(f"{self.config_path}: cannot be read ({error}); is this a run directory?") from error

    def run_id(self) -> str:
        """Return the run's id, which experiment trackers know it by; a lost run.json is written again."""
        files = [self.path / "run.json", *sorted(self.checkpoints_dir.glob("[0-9]*/manifest.json"), reverse=True)]
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
        """Record the start of an attempt; the one before it may have died, with `last_sign` of its life.

        Among the facts, `results` is the part of the config that samples and report depend on.
        """
        self.attempts_dir.mkdir(parents=True, exist_ok=True)
        before = attempt_paths(self.path)
        if before:
            close_lost(self.path, before[-1], last_sign)
        return Attempt(self.attempts_dir / f"{len(before) + 1:03d}.json", {**origin(), **facts})

    def has_results(self, results: Mapping[str, Any]) -> bool:
        """Tell whether the last finished attempt has made samples and report with the same settings."""
        finished = [a for a in self._attempts() if a["stop_reason"] == "finished"]
        return bool(finished) and finished[-1]["results"] == results and self.samples_dir.is_dir()

    def _attempts(self) -> list[dict[str, Any]]:
        return [facts for facts in map(read_attempt, attempt_paths(self.path)) if facts]

    def _pin(self, container: Mapping[str, Any]) -> None:
        shutil.rmtree(self.simulations_dir, ignore_errors=True)  # holds no simulation, perhaps an index
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_path, yaml.safe_dump(dict(container), sort_keys=False, allow_unicode=True))
        self._describe(uuid.uuid4().hex[:16])

    def _describe(self, run_id: str) -> str:
        facts = {"run_id": run_id, "created": now(), **origin()}
        write_atomically(self.path / "run.json", json.dumps(facts, indent=1))
        return run_id

    def _check_unchanged(self, container: Mapping[str, Any]) -> None:
        old, new = _flatten(self.pinned_config()), _flatten(container)
        changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and not _FREE.match(key)]
        if changed:
            lines = [f"  {key}: {old.get(key)} → {new.get(key)}" for key in sorted(changed)]
            raise ResumeRefusedError(
                f"{self.path}: incompatible config; put these back, or start another run with name=...\n"
                + "\n".join(lines)
            )

    def _copy_from(self, path: Path, container: Mapping[str, Any]) -> None:
        """Begin with what another run has, or with one checkpoint of it; `path` is either's directory."""
        is_generation = path.parent.name == "checkpoints"
        source = RunDirectory(path.parents[1] if is_generation else path)
        if not source.holds_work() or not path.is_dir():
            raise CheckpointError(f"resume_from={path}: holds no run")
        if source.path.resolve() == self.path.resolve():
            hint = "set name=..." if is_generation else "use +resume=true, or set name=..."
            raise ConfigError(f"resume_from={path}: lies in the run directory itself; {hint}")
        if self._attempts():
            return  # copied by an earlier attempt
        self._pin(container)
        shutil.copy2(source.config_path, self.config_path)
        if is_generation:
            number = path.resolve().name.removeprefix("emergency-")
            _copy(path.resolve(), self.checkpoints_dir / number)
        else:
            _copy(source.checkpoints_dir, self.checkpoints_dir)
        _copy(source.simulations_dir, self.simulations_dir)
        _copy(source.path / "metrics.jsonl", self.path / "metrics.jsonl")

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


def _copy(source: Path, target: Path) -> None:
    """Copy a file or directory, if it exists and was not copied before; what is half copied has another name."""
    temporary = target.with_name(f"{target.name}.tmp")
    if target.exists() or not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary, symlinks=True)
    else:
        shutil.copy2(source, temporary)
    temporary.rename(target)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"framework": version("framework"), "torch": torch.__version__, "python": platform.python_version()}


def origin() -> dict[str, Any]:
    """Return what code is running."""
    return {"versions": versions(), "git_commit": _git_commit()}


def _git_commit() -> str | None:
    """Return the commit of the working directory, with `+` appended where files differ from it."""
    try:
        git = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): value}
