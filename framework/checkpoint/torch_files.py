"""Files in torch's format, read back as plain data."""

import io
import pickle
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from framework.checkpoint.durable_file import DurableFile, is_json, json_bytes
from framework.checkpoint.numpy_arrays import PICKLE, allow
from framework.errors import CheckpointError, DamagedError

_crc_lock = threading.Lock()


def write_content(file: DurableFile, name: str, content: Any, compress: bool = False) -> None:
    """Write `content` in the format that the name's ending asks for: `.json`, or torch's for anything else."""
    if is_json(name):
        file.write(json_bytes(content))
    elif compress:
        file.write(_deflated(content))
    else:
        with _crc32(False):  # a second digest, at a third of the whole cost
            torch.save(content, file, PICKLE)  # type: ignore[arg-type]  # it asks for `write` and `flush` alone


def read_torch(path: Path, file: BinaryIO) -> Any:
    """Read what torch.save has written to the file, which lies at `path`; nothing in it can run code."""
    allow()
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: refused, it holds more than weights and plain containers ({reason})") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of bytes that someone else has written, whatever torch makes of them
        raise DamagedError(f"{path}: damaged ({error})") from error


def _deflated(content: Any) -> bytes:
    """Return torch's format with its records deflated, which torch.load reads like any other."""
    plain, packed = io.BytesIO(), io.BytesIO()
    with _crc32(True):
        torch.save(content, plain, PICKLE)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
        for record in source.namelist():
            target.writestr(zipfile.ZipInfo(record), source.read(record), zipfile.ZIP_DEFLATED, compresslevel=1)
    return packed.getvalue()


@contextmanager
def _crc32(enabled: bool) -> Iterator[None]:
    """Let torch.save compute checksums of its own, or not; the setting is the process's."""
    with _crc_lock:
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(enabled)
        try:
            yield
        finally:
            torch.serialization.set_crc32_options(before)
