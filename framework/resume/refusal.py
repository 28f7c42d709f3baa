"""The message of a refused resume: every key, the sources of its values, and what to type instead."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framework.config.overrides import Override, may_be_typed, quoted, recorded
from framework.config.resume_class import INSTRUCTIONS
from framework.config.schema import SHAPE, TRAJECTORY
from framework.errors import printable
from framework.resume.diff_format import short
from framework.resume.differences import ABSENT, Change
from framework.resume.verdicts import FOLLOWS_EPOCHS, VERSION
from framework.rundir.run_record import RunRecord

_VALUE_WIDTH = 48
_MANY = 3  # keys to allow one by one


def describe(
    run_dir: Path, refused: Sequence[Change], old: RunRecord, overrides: Sequence[str], config_dirs: Sequence[str]
) -> str:
    """Return the message; `overrides` and `config_dirs` are those of the refused attempt."""
    lines = [f"{run_dir}: incompatible config; nothing was changed"]
    lines += [f"  {_line(change)}" for change in refused]
    shape = [change for change in refused if change.kind == SHAPE]
    to_allow = [change.key if change.path[0] != "code" else "code" for change in refused if change.kind != SHAPE]
    if shape:
        lines.append(f"revert: {_revert_words(shape, old)} · or start another run: name=...")
    if to_allow:
        many = len(to_allow) > _MANY and VERSION not in to_allow
        allow = f"resume_allow=[{TRAJECTORY if many else ','.join(dict.fromkeys(to_allow))}]"
        revert = _revert_words([change for change in refused if change.kind != SHAPE], old)
        lines.append(f"allow: {shlex.quote(allow)} · or revert: {revert}")
    return "\n".join([*lines, *_resume_command(run_dir, old, overrides, config_dirs)])


def _line(change: Change) -> str:
    origins = " → ".join(filter(None, (_shown_source(change.old_source), change.new_source)))
    values = f"{short(change.old, _VALUE_WIDTH)} → {short(change.new, _VALUE_WIDTH)}"
    remark = "; ".join(filter(None, (origins, change.reason)))
    return f"{change.key}: {values}" + (f"  ({remark})" if remark else "")


def _shown_source(origin: str) -> str:
    """Return a value's recorded source, without the override if that is unsafe to type."""
    override, is_attempt, number = origin.rpartition(" in attempt ")
    return origin if not is_attempt or may_be_typed(Override.parse(override)) else f"attempt {number}"


def _revert_words(changes: Sequence[Change], old: RunRecord) -> str:
    """Return how to undo the changes: overrides, ready to be typed, and instructions for the others."""
    undone = [_undo(change, old.config) for change in changes]
    typed = [item.text for item in undone if isinstance(item, Override)]
    line = " ".join(f"~{shlex.quote(t[1:])}" if t[0] == "~" else shlex.quote(t) for t in dict.fromkeys(typed))
    words = [item for item in undone if isinstance(item, str)]
    return " and ".join(filter(None, [line, *dict.fromkeys(words)]))


def _undo(change: Change, config: dict[str, Any]) -> Override | str:
    """Return the override that undoes a change, or a description of what to restore."""
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
        return Override.parse(f"~{key}")
    written = f"{'++' if change.new is ABSENT else ''}{key}={short(value).replace(', ', ',')}"
    override = Override.parse(written)
    return override if may_be_typed(override) else f"the previous {key}, {short(value, _VALUE_WIDTH)}"


def _resume_command(run_dir: Path, old: RunRecord, overrides: Sequence[str], config_dirs: Sequence[str]) -> list[str]:
    """Return the command that resumes without changes, if overrides of the last attempt were omitted.

    Overrides recorded in the directory are shown as a command only if they cannot choose what code runs. The
    configuration directories are those of the current command.
    """
    last = next((a for a in reversed(old.attempts) if not a.requeued), None)
    before = [Override.parse(text) for text in recorded(last.overrides)] if last else []
    before = [o for o in before if o.top not in INSTRUCTIONS]
    if {o.text for o in before} <= set(overrides):
        return []
    if odd := [o for o in before if not may_be_typed(o) and o.text not in overrides]:
        names = ", ".join(dict.fromkeys(printable(o.name)[:_VALUE_WIDTH] for o in odd))
        return [f"unchanged: with another {names}, which chooses code or files; check {run_dir / 'attempts'} first"]
    options = [f"--config-dir={path}" for path in config_dirs]
    if run_dir != Path("outputs", str(old.config.get("name"))):
        options.append(f"hydra.run.dir={quoted(str(run_dir))}")
    line = shlex.join([*options, *(o.text for o in before)])
    return [f"unchanged: python -m framework.train {line} +resume=true"]
