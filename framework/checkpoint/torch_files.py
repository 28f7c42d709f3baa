"""Files in torch's format, read as plain data."""

import pickle
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from framework.checkpoint.arrays import Pickler, rebuild
from framework.checkpoint.durable_file import DurableFile, is_json, json_bytes
from framework.compat.torch import deflated, load_may_call, save
from framework.errors import CheckpointError, DamagedError


def write_content(file: DurableFile, name: str, content: Any, compress: bool = False) -> None:
    """Write `content` in the format given by the file name: JSON for `.json`, torch's for anything else."""
    if is_json(name):
        file.write(json_bytes(content))
    elif compress:
        file.write(deflated(content, Pickler))
    else:
        save(content, cast(BinaryIO, file), Pickler, checksums=False)


def read_torch(path: Path, file: BinaryIO) -> Any:
    """Read a file written by torch.save, whose path is `path`; its content cannot run code."""
    load_may_call(rebuild)
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: refused because it contains more than weights and plain containers ({reason})"
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the bytes are untrusted, so any error is possible
        raise DamagedError(f"{path}: damaged ({error})") from error
