"""Validation of the plain values in a checkpoint, whose files are untrusted."""

import math
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from framework.errors import CheckpointError

Check = tuple[Callable[[Any], bool], str]  # whether a value is valid, and a description of valid values

_LARGEST = 2**63 - 1


def check_entries(content: Any, checks: Mapping[str, Check], optional: Collection[str] = (), key: str = "") -> None:
    """Raise `CheckpointError` unless `content` is a mapping with exactly these entries, all of them valid.

    `key` is the location of `content`, for error messages.
    """
    if not isinstance(content, dict) or not checks.keys() - set(optional) <= content.keys() <= checks.keys():
        found = ", ".join(map(repr, content)) if isinstance(content, dict) else reprlib.repr(content)
        raise CheckpointError(f"{key and f'{key}: '}expected {', '.join(checks)}, found {found:.200}")
    for name, (is_right, expected) in checks.items():
        if name in content and not is_right(content[name]):
            where = f"{key}.{name}" if key else name
            raise CheckpointError(f"{where}: expected {expected}, found {reprlib.repr(content[name])}")


def has_entries(content: Any, **are_right: Callable[[Any], bool]) -> bool:
    """Return whether `content` is a mapping with at least these entries."""
    return isinstance(content, dict) and all(
        name in content and is_right(content[name]) for name, is_right in are_right.items()
    )


def is_list(value: Any, is_right: Callable[[Any], bool]) -> bool:
    """Return whether `value` is a list of valid entries."""
    return isinstance(value, list) and all(map(is_right, value))


def is_mapping(value: Any, is_right: Callable[[Any], bool] = lambda value: True) -> bool:
    """Return whether `value` is a mapping to valid values."""
    return isinstance(value, dict) and all(map(is_right, value.values()))


def is_count(value: Any) -> bool:
    """Return whether `value` is an integer of at least 0."""
    return type(value) is int and 0 <= value <= _LARGEST


def is_number(value: Any) -> bool:
    """Return whether `value` is a number, possibly infinite or NaN."""
    return type(value) is float or (type(value) is int and abs(value) <= _LARGEST)


def is_duration(value: Any) -> bool:
    """Return whether `value` is a number of seconds."""
    return is_number(value) and 0 <= value < math.inf


def is_flag(value: Any) -> bool:
    """Return whether `value` is True or False."""
    return isinstance(value, bool)


def is_word(value: Any) -> bool:
    """Return whether `value` is text that is safe to print on a terminal."""
    return isinstance(value, str) and value.isprintable()
