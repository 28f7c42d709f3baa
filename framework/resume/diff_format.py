"""Configuration differences as text, Markdown and JSON."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from framework.errors import printable
from framework.resume.differences import ABSENT, Change

_TENSORS_SHOWN = 2
_VALUE_WIDTH = 32
_COLUMN_WIDTH = 24  # of both values together; only longer ones shift their remark to the right


def text(title: str, changes: Sequence[Change], notes: Sequence[str] = (), width: int = 120) -> str:
    """Return the title and one line for each change, in columns, with lines of at most `width` if possible."""
    lines = [title]
    keys = max((len(change.key) for change in changes), default=0)
    values = min(max((len(_values(change)) for change in changes), default=0), _COLUMN_WIDTH)
    for change in changes:
        line = f"  {change.kind:<10}  {change.key:<{keys}}  {_values(change):<{values}}"
        remark = verdict(change)
        if remark and len(line) + len(remark) + 2 > width:  # on a separate line
            lines += [line.rstrip(), f"{'':14}{remark}"]
        else:
            lines.append(f"{line}  {remark}".rstrip())
        lines += _tensor_lines(change, width)
    return "\n".join([*lines, *(f"  {note}" for note in notes)])


def verdict(change: Change) -> str:
    """Return the verdict on a change and the reason."""
    words = {"": "", "refused": "refused", "allowed": "allowed by resume_allow", "ignored": "ignored"}[change.verdict]
    if change.verdict == "refused" and change.kind == "trajectory":
        words = "refused unless allowed"
    return ": ".join(filter(None, (words, change.reason)))


def markdown(title: str, changes: Sequence[Change], notes: Sequence[str] = ()) -> str:
    """Return the same as a Markdown table."""
    lines = [f"**{title}**", "", "| class | key | old | new | |", "|---|---|---|---|---|"]
    for change in changes:
        cells = [change.kind, f"`{change.key}`", f"`{short(change.old)}`", f"`{short(change.new)}`", verdict(change)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines += [f"| | `{name}` | `{old}` | `{new}` | |" for name, old, new in change.tensors]
    return "\n".join([*lines, *(f"\n{note}" for note in notes)])


def records(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return the changes as plain containers; an absent value has no entry."""
    return [dict(_record(change)) for change in changes]


def as_json(title: str, changes: Sequence[Change], notes: Sequence[str] = ()) -> str:
    """Return the same as JSON."""
    refused = any(change.verdict == "refused" for change in changes)
    content = {"title": title, "refused": refused, "changes": records(changes), "notes": list(notes)}
    return json.dumps(content, indent=1, ensure_ascii=False)


def short(value: Any, width: int = 1000) -> str:
    """Return a value on one line, as written in YAML, truncated to `width`."""
    if value is ABSENT:
        return repr(ABSENT)
    shown = printable(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
    return shown if len(shown) <= width else f"…{shown[1 - width :]}" if "/" in shown else f"{shown[: width - 1]}…"


def _values(change: Change) -> str:
    return f"{short(change.old, _VALUE_WIDTH)} → {short(change.new, _VALUE_WIDTH)}"


def _tensor_lines(change: Change, width: int) -> list[str]:
    shown = change.tensors[:_TENSORS_SHOWN]
    names = max((len(name) for name, _, _ in shown), default=0)
    sizes = max((len(old) for _, old, _ in shown), default=0)
    lines = [f"{'':16}{name:<{names}}  {old:<{sizes}} → {new}" for name, old, new in shown]
    if len(change.tensors) > len(shown):
        more = f"… {len(change.tensors) - len(shown)} more tensors"
        fits = len(lines[-1]) + len(more) + 5 <= width
        lines[-1:] = [f"{lines[-1]}     {more}"] if fits else [lines[-1], f"{'':16}{more}"]
    return lines


def _record(change: Change) -> Iterator[tuple[str, Any]]:
    yield from (("key", change.key), ("class", change.kind), ("verdict", change.verdict))
    for name in ("old", "new"):
        if getattr(change, name) is not ABSENT:
            yield name, getattr(change, name)
    for name in ("reason", "old_source", "new_source", "tensors"):
        if getattr(change, name):
            yield name, getattr(change, name)
