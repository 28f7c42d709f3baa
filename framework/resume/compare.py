"""Differences between two records of a run: configuration, code and versions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from framework.config.parse import from_container
from framework.config.schema import FREE, SHAPE, TRAJECTORY
from framework.errors import ConfigError
from framework.resume.differences import Change, differences
from framework.resume.verdicts import VERSION, judge
from framework.rundir.directory import RunDirectory
from framework.rundir.run_record import RunRecord

INEXACT = "from here on, results are not bit for bit the same"


def run_changes(source: RunDirectory, old: RunRecord, new: RunRecord, allow: list[str]) -> list[Change]:
    """Return all changes since the run in `source` with their verdicts; changes of shape come first."""
    changes = version_changes(old, new)
    if changes and VERSION not in allow:  # another version may have other keys
        judge(changes, allow)
        return changes
    changes += differences(parsed(source, old.config), new.config)
    changes += code_changes(old, new)
    changes.sort(key=lambda change: [SHAPE, TRAJECTORY, FREE].index(change.kind))
    judge(changes, allow)
    return changes


def version_changes(old: RunRecord, new: RunRecord) -> list[Change]:
    """Return the change of the framework's version, if it is more than a patch release."""
    before, after = (record.versions.get("framework") for record in (old, new))
    if before is None or after is None or before.split(".")[:2] == after.split(".")[:2]:
        return []
    return [Change((VERSION,), TRAJECTORY, before, after, reason="another version of the framework")]


def code_changes(old: RunRecord, new: RunRecord) -> list[Change]:
    """Return the targets in both records whose code differs; a new target appears as a changed key."""
    return [
        Change(("code", target), TRAJECTORY, old.code[target][:8], new.code[target][:8], reason="its code has changed")
        for target in sorted(old.code.keys() & new.code.keys())
        if old.code[target] != new.code[target]
    ]


def torch_note(old: RunRecord, new: RunRecord) -> list[str]:
    """Return the note about another torch version, which includes the CUDA version."""
    before, after = (record.versions.get("torch") for record in (old, new))
    if before in (None, after):
        return []
    return [f"⚠ torch {before} → {after}: {INEXACT}"]


def parsed(directory: RunDirectory, container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's config as parsed by this version of the framework."""
    try:
        return dataclasses.asdict(from_container(container))
    except ConfigError as error:
        raise ConfigError(f"{directory.path}: its config is invalid in this version ({error})") from error


def compare_runs(first: RunDirectory, second: RunDirectory) -> tuple[str, list[Change], list[str]]:
    """Return title, changes and notes of two runs, as if the first were resumed with the second's config."""
    old = first.record()
    new = second.record()
    changes = run_changes(first, old, dataclasses.replace(new, config=parsed(second, new.config)), [])
    return f"{first.path} → {second.path}", changes, torch_note(old, new)
