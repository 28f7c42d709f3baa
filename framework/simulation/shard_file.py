"""The file of a shard: the valid simulations of a range as a NumPy array, then their seed, range and a checksum.

Its content is untrusted: the header may be wrong, and the file may have been renamed.
"""

import functools
import io
import logging
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from framework.errors import DamagedError, UnreadableError
from framework.files import retry
from framework.records import read_bytes

log = logging.getLogger(__name__)

_NAME = re.compile(r"(0|[1-9]\d{0,17})-([1-9]\d{0,17})\.npy")
_FOOTER = re.compile(rb"(seed (-?\d{1,4000}) range (\d{1,18})-(\d{1,18}) )?crc32 ([0-9a-f]{8})\n")
_MAX_HEADER = 2**17
_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Shard(NamedTuple):
    """A file with the valid simulations from `start` up to but not including `stop`."""

    start: int
    stop: int
    path: Path


@dataclass(frozen=True)
class ShardInfo:
    """The properties of a shard whose content has been verified."""

    num_rows: int
    event_shapes: dict[str, tuple[int, ...]]  # by node
    seed: int | None  # None: written by version 0.2, without a seed


_known: dict[tuple[str, int, int, int], ShardInfo] = {}  # verified files, by `_key`


def dtype_of(event_shapes: Mapping[str, tuple[int, ...]]) -> np.dtype:
    """Return the dtype of a shard's rows."""
    return np.dtype([("index", "<i8"), *((name, "<f4", shape) for name, shape in event_shapes.items())])


def list_shards(directory: Path) -> list[Shard]:
    """Return the shards according to file names, sorted by start; warn about other files and ignore them."""
    try:
        names = retry(lambda: os.listdir(directory))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableError.of(directory, error) from error
    shards = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match and int(match[1]) < int(match[2]):
            shards.append(Shard(int(match[1]), int(match[2]), directory / name))
        elif name.endswith(".npy") and not name.startswith("."):
            warn_once(f"{directory / name}: ignored, not the name of a shard; expected <start>-<stop>.npy")
    return sorted(shards)


def encode_shard(start: int, stop: int, seed: int, rows: np.ndarray) -> bytes:
    """Return the content of a shard's file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, rows, allow_pickle=False)
    label = b"seed %d range %d-%d " % (seed, start, stop)
    buffer.write(b"%bcrc32 %08x\n" % (label, zlib.crc32(label, zlib.crc32(buffer.getbuffer()))))
    return buffer.getvalue()


def shard_info(shard: Shard) -> ShardInfo:
    """Return the info of a shard, cached after the first read; raises the same errors as `read_shard`."""
    key = _key(shard.path)
    if key is None or key not in _known:
        return read_shard(shard)[1]
    return _known[key]


def read_shard(shard: Shard) -> tuple[np.ndarray, ShardInfo]:
    """Return the rows, `index` int64 in increasing order and a float32 field per node, and the shard's info.

    Raises `DamagedError`, or `UnreadableError` if the file cannot be read.
    """
    path, key = shard.path, _key(shard.path)
    try:
        data = memoryview(read_bytes(path, max_bytes=None))
    except FileNotFoundError as error:
        raise DamagedError(f"{path}: missing") from error
    dtype, num_rows, offset = _header(path, data)
    end = offset + num_rows * dtype.itemsize
    footer = _FOOTER.fullmatch(data[end:])
    if footer is None or num_rows > shard.stop - shard.start:
        raise DamagedError(f"{path}: damaged (its length does not match its header)")
    if zlib.crc32(footer[1] or b"", zlib.crc32(data[:end])) != int(footer[5], 16):
        raise DamagedError(f"{path}: damaged (its checksum does not match)")
    if footer[1] and (int(footer[3]), int(footer[4])) != shard[:2]:
        raise DamagedError(f"{path}: damaged (its range does not match its name)")
    rows = np.frombuffer(data, dtype, num_rows, offset)
    bounds = np.concatenate([[shard.start - 1], rows["index"], [shard.stop]])
    if not (bounds[1:] > bounds[:-1]).all():
        raise DamagedError(f"{path}: damaged (its simulations do not match its name)")
    shapes = {name: dtype[name].shape for name in (dtype.names or ())[1:]}
    info = ShardInfo(num_rows, shapes, int(footer[2]) if footer[1] else None)
    if key is not None:
        _known[key] = info
    return rows, info


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning only once, because each read of the files would repeat it."""
    log.warning("⚠ %s", text)


def _header(path: Path, data: memoryview) -> tuple[np.dtype, int, int]:
    """Return the dtype, the number of rows, and their offset."""
    stream = io.BytesIO(data[:_MAX_HEADER])
    try:
        (num_rows,), is_fortran, dtype = _READ_HEADER[np.lib.format.read_magic(stream)](
            stream, max_header_size=_MAX_HEADER
        )
        expected = dtype_of({name: dtype[name].shape for name in (dtype.names or ())[1:]})
        if dtype != expected or is_fortran or num_rows < 0:
            raise ValueError("not an array of simulations")
    except Exception as error:  # NumPy may raise almost any exception for a damaged header
        raise DamagedError(f"{path}: damaged ({str(error) or type(error).__name__})") from error
    return dtype, num_rows, stream.tell()


def _key(path: Path) -> tuple[str, int, int, int] | None:
    """Return a key that changes whenever the file's content changes, or None if the file cannot be accessed."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns
