"""The message of a refused resume: every key, where its values come from, and what to type instead."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framework.config.overrides import Override
from framework.config.schema import SHAPE, TRAJECTORY
from framework.resume.diff import ABSENT, Change
from framework.resume.policy import FOLLOWS_EPOCHS, VERSION
from framework.resume.report import short
from framework.rundir.run_record import RunRecord

_VALUE_WIDTH = 48
_MANY = 3  # keys to consent to one by one


def describe(run_dir: Path, refused: Sequence[Change], old: RunRecord, overrides: Sequence[str]) -> str:
    """Return the message; `overrides` are those of the attempt that is refused."""
    lines = [f"{run_dir}: incompatible config; nothing was changed"]
    lines += [f"  {_line(change)}" for change in refused]
    shape = [change for change in refused if change.kind == SHAPE]
    consent = [change.key if change.path[0] != "code" else "code" for change in refused if change.kind != SHAPE]
    if shape:
        lines.append(f"put back: {_back(shape, old)} · or start another run: name=...")
    if consent:
        many = len(consent) > _MANY and VERSION not in consent
        allow = f"resume_allow=[{TRAJECTORY if many else ','.join(dict.fromkeys(consent))}]"
        back = _back([change for change in refused if change.kind != SHAPE], old)
        lines.append(f"consent: {shlex.quote(allow)} · or put back: {back}")
    return "\n".join([*lines, *_as_before(old, overrides)])


def _line(change: Change) -> str:
    origins = " → ".join(filter(None, (change.old_origin, change.new_origin)))
    values = f"{short(change.old, _VALUE_WIDTH)} → {short(change.new, _VALUE_WIDTH)}"
    says = "; ".join(filter(None, (origins, change.reason)))
    return f"{change.key}: {values}" + (f"  ({says})" if says else "")


def _back(changes: Sequence[Change], old: RunRecord) -> str:
    """Return what undoes the changes, to be typed as it is where it is a matter of overrides."""
    return " ".join(dict.fromkeys(_undo(change, old.config) for change in changes))


def _undo(change: Change, config: dict[str, Any]) -> str:
    if change.key == VERSION:
        return f"framework {change.old}"
    if change.path[0] == "code":
        return f"the code of {change.path[1]}"
    if change.path[0] == "graph" and len(change.path) == 2:
        return f"the graph without {change.path[1]}" if change.old is ABSENT else f"node {change.path[1]}"
    names: list[str] = []
    value: Any = config
    for name in ("loop", "num_epochs") if change.reason == FOLLOWS_EPOCHS and change.old is not ABSENT else change.path:
        if not isinstance(value, dict):  # a list is set as a whole
            break
        names.append(str(name))
        value = value.get(name, ABSENT)
    key = ".".join(names)
    if value is ABSENT:
        return f"~{key}"
    return shlex.quote(f"{'++' if change.new is ABSENT else ''}{key}={short(value).replace(', ', ',')}")


def _as_before(old: RunRecord, overrides: Sequence[str]) -> list[str]:
    """Return the command that goes on without any change, if overrides of the last attempt were left out."""
    last = next((a for a in reversed(old.attempts) if not a.requeued), None)
    if last is None or set(last.overrides) <= {*overrides, "+resume=true"}:
        return []
    given = [a for a in last.command[2:] if Override.parse(a).key not in ("resume", "overwrite")]
    return [f"as it was: python -m framework.train {shlex.join(given)} +resume=true"]
