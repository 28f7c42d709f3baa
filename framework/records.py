"""Small JSON files that contain their own digest, so that damage is detected.

The digest is XXH3: it detects damage, and is not meant to prevent forgery.
"""

import dataclasses
import errno
import json
import math
import os
import reprlib
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import xxhash

from framework.errors import CheckpointError, DamagedError, UnreadableError
from framework.files import open_to_read, read_file, replace_file, retry

T = TypeVar("T")

DIGEST = "xxh3_128"  # the last entry of every record
_MAX_BYTES = 64 << 20  # far larger than any record
_LARGE = 2**63
_DAMAGE = {  # problems with the path; all other errors are problems with the file system
    errno.ELOOP: "is a link, expected a file",
    errno.EISDIR: "is a directory, expected a file",
    errno.EINVAL: "is not a regular file",
    errno.ENOENT: "damaged (missing)",
    errno.ENOTDIR: "damaged (missing)",
    errno.ENAMETOOLONG: "damaged (its name is too long)",
    errno.EFBIG: "damaged (too large)",
}


def write_record(path: Path, content: Mapping[str, Any], durable: bool = True) -> None:
    """Write a record atomically; see `framework.files.replace_file`."""
    replace_file(path, encode(content), durable)


def read_record(path: Path, of_version_02: Collection[Collection[str]] = ()) -> dict[str, Any]:
    """Return a record without its digest, which version 0.2 did not write: `of_version_02` lists its sets of keys.

    Raises `FileNotFoundError`, `DamagedError` if the content has changed, and `UnreadableError` if the file system
    cannot read it now.
    """
    return decode(path, read_bytes(path), of_version_02)


def read_bytes(path: Path, max_bytes: int | None = _MAX_BYTES) -> bytes:
    """Return the content of a run's file; raises like `read_record`."""
    with _as_read_errors(path):
        return read_file(path, max_bytes)


def read_error(path: Path, error: OSError) -> CheckpointError:
    """Return the `DamagedError` or `UnreadableError` for a failure to read a run's file."""
    if error.errno in _DAMAGE:
        return DamagedError(f"{path}: {_DAMAGE[error.errno]}")
    return UnreadableError.of(path, error)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a run's file to be read by a library; raises like `read_record`, also for errors in the block."""
    with _as_read_errors(path), os.fdopen(retry(lambda: open_to_read(path)), "rb") as file:
        yield file


def encode(content: Mapping[str, Any]) -> bytes:
    """Return a record as JSON with one entry per line, readable by people and `grep`, and with its digest."""
    entries = {**content, DIGEST: _digest(content)}
    return ("{\n" + ",\n".join(json.dumps({key: value})[1:-1] for key, value in entries.items()) + "\n}\n").encode()


def decode(path: Path, data: bytes, of_version_02: Collection[Collection[str]] = ()) -> dict[str, Any]:
    """Return the content encoded by `encode`; raises `DamagedError`, which names `path`."""
    content = parse_json(path, data)
    if not isinstance(content, dict):
        raise DamagedError(f"{path}: damaged (not a mapping)")
    if any(content.keys() == set(keys) for keys in of_version_02):
        return content
    if content.pop(DIGEST, None) != _digest(content):
        raise DamagedError(f"{path}: damaged (its digest does not match)")
    return content


def parse_json(path: Path, data: bytes) -> Any:
    """Parse untrusted JSON from a run's file; raises `DamagedError`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DamagedError(f"{path}: damaged ({reason})") from error


@contextmanager
def _as_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, "missing", str(path)) from None
    except OSError as error:
        raise read_error(path, error) from error


def _digest(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(content).encode()).hexdigest()


def build(cls: type[T], content: Mapping[str, Any], path: Path) -> T:
    """Return a record's content as a dataclass; unknown entries are ignored.

    Raises `DamagedError` if an entry is missing or not of its field's type, which may be composed of str, bool, int,
    float (finite), None, an Enum, Any, list[...] and dict[str, ...].
    """
    hints = typing.get_type_hints(cls)
    values = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in content:
            try:
                values[field.name] = _typed(content[field.name], hints[field.name])
            except (TypeError, ValueError):
                shown = reprlib.repr(content[field.name])
                raise DamagedError(f"{path}: damaged ({field.name}={shown} is not valid)") from None
        elif field.default is field.default_factory is dataclasses.MISSING and field.init:
            raise DamagedError(f"{path}: damaged (no {field.name})")
    return cls(**values)


def _typed(value: Any, hint: Any) -> Any:
    """Return the value as an instance of the type; raises `TypeError` or `ValueError`."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hint is Any:
        return value
    if origin is types.UnionType:
        return None if value is None else _typed(value, next(a for a in arguments if a is not types.NoneType))
    if origin is list and isinstance(value, list):
        return [_typed(item, arguments[0]) for item in value]
    if (origin or hint) is dict and isinstance(value, dict):
        return {name: _typed(item, arguments[1]) for name, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint is int and type(value) is int and abs(value) < _LARGE:
        return value
    if hint in (str, bool) and type(value) is hint:
        return value
    raise TypeError
