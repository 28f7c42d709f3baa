"""The lines of `metrics.jsonl`: JSON whose last entry is a check of the line and of the check of the line before it.

So a line that has changed is found, and so are lines that are lost, but for the last ones.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from framework.records import read_bytes

METRICS_FILE = "metrics.jsonl"

_CHECK = re.compile(r', "check": "([0-9a-f]{8})"\}$')
_MAX_STEP = 2**63  # what trackers can hold


@dataclass(frozen=True)
class Metrics:
    """What `metrics.jsonl` holds: each record has a `node`, a text, and a `step`, a whole number."""

    records: list[dict[str, Any]]
    problems: list[str]  # for people; the lines are left out


def read_metrics(path: Path) -> Metrics:
    """Return the records of a file, none where it is missing; half a last line is one being written.

    Lines without any check, of version 0.2, are taken as they are. Raises `DamagedError` where `path` is no file,
    and `UnreadableError`.
    """
    try:
        lines = read_bytes(path, max_bytes=None).decode(errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return Metrics([], [])
    texts, num_unlinked = _linked(lines)
    records = [record for record in _parse(texts) if is_record(record)]
    problems = []
    if num_damaged := len(lines) - num_unlinked - len(records):
        problems.append(f"{path}: damaged in {num_damaged} of {len(lines)} lines")
    if num_unlinked:
        problems.append(f"{path}: {num_unlinked} of {len(lines)} lines have changed, or lines before them are lost")
    return Metrics(records, problems)


def encode_records(records: Iterable[Mapping[str, Any]], before: str = "") -> tuple[str, str]:
    """Return the records' lines and the last one's check; `before` is that of the line which they come after."""
    lines = []
    for record in records:
        text = json.dumps(record)
        before = _check(before, text)
        lines.append(f'{text[:-1]}, "check": "{before}"}}\n')
    return "".join(lines), before


def parse_line(line: str) -> dict[str, Any] | None:
    """Return the record of a line without its check, or None where it is none; what is lost does not show here."""
    record = next(iter(_parse([_without_check(line)])), None)
    return record if is_record(record) else None


def _linked(lines: Sequence[str]) -> tuple[list[str], int]:
    """Return the lines without their checks, but for those whose check is not their own, and the number of these."""
    found = [_CHECK.search(line) for line in lines]
    if not any(found):
        return list(lines), 0
    texts, num_unlinked = [], 0
    before: str | None = ""
    for line, match in zip(lines, found, strict=True):
        text, check = _without_check(line), match[1] if match else None
        if check and before is not None and check != _check(before, text):
            num_unlinked += 1
        elif check:  # or else it is damaged, and nothing is known of what came after it
            texts.append(text)
        before = check
    return texts, num_unlinked


def _parse(texts: Sequence[str]) -> list[Any]:
    """Return what is JSON of the texts."""
    with suppress(ValueError, RecursionError):  # several times faster than line by line
        values = json.loads(f"[{','.join(texts)}]")
        if len(values) == len(texts):
            return list(values)
    values = []
    for text in texts:
        with suppress(ValueError, RecursionError):
            values.append(json.loads(text))
    return values


def is_record(value: Any) -> bool:
    """Tell whether this is what a line holds: a node, a step, and whatever else."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("node"), str)
        and type(value.get("step")) is int
        and 0 <= value["step"] < _MAX_STEP
    )


def _without_check(line: str) -> str:
    return _CHECK.sub("}", line)


def _check(before: str, text: str) -> str:
    return xxhash.xxh3_64((before + text).encode(errors="replace")).hexdigest()[:8]
