"""The lines of `metrics.jsonl`: JSON whose last entry is a checksum of the line and of the previous checksum.

This detects changed lines and lost lines, except at the end of the file.
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
_MAX_STEP = 2**63  # the limit of trackers


@dataclass(frozen=True)
class Metrics:
    """The content of `metrics.jsonl`: each record has a `node` (string) and a `step` (integer)."""

    records: list[dict[str, Any]]
    problems: list[str]  # messages about lines that were skipped


def read_metrics(path: Path) -> Metrics:
    """Return the records of a file, empty if it is missing; an incomplete last line, being written, is ignored.

    A file without checksums, from version 0.2, is read unchecked. Raises `DamagedError` if `path` is not a
    file, and `UnreadableError`.
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
    """Return the records' lines and the last checksum; `before` is the checksum of the preceding line."""
    lines = []
    for record in records:
        text = json.dumps(record)
        before = _check(before, text)
        lines.append(f'{text[:-1]}, "check": "{before}"}}\n')
    return "".join(lines), before


def parse_line(line: str) -> dict[str, Any] | None:
    """Return the record of a line without its checksum, or None if it is not one; lost lines are not detected."""
    record = next(iter(_parse([_without_check(line)])), None)
    return record if is_record(record) else None


def _linked(lines: Sequence[str]) -> tuple[list[str], int]:
    """Return the lines without checksums, skipping those with a wrong checksum, and the number of skipped lines."""
    found = [_CHECK.search(line) for line in lines]
    if not any(found):
        return list(lines), 0
    texts = []
    num_unlinked = 0
    before: str | None = ""
    for line, match in zip(lines, found, strict=True):
        text = _without_check(line)
        check = match[1] if match else None
        if check and before is not None and check != _check(before, text):
            num_unlinked += 1
        elif check:  # without one, the line is damaged, and the next line cannot be checked
            texts.append(text)
        before = check
    return texts, num_unlinked


def _parse(texts: Sequence[str]) -> list[Any]:
    """Return the values of those texts that are valid JSON."""
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
    """Return whether this is a valid record: a dict with a node, a step, and any other entries."""
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
