"""NumPy arrays and scalars in torch's file format: stored as bytes, which only `rebuild` converts back.

NumPy's own pickles refer to functions that differ between versions and that accept more than numbers.
"""

import copyreg
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CODES = "?bhilqBHILQefdFD"  # NumPy's type codes, except longdouble, whose bits depend on the machine
NUMBERS = frozenset(np.dtype(code).type for code in _CODES)
_DTYPES = {np.dtype(f"{order}{code}").str for code in _CODES for order in "<>"}


def rebuild(dtype: str, data: Tensor | bytes, shape: tuple[int, ...] = (), order: str = "C") -> Any:
    """Return the scalar with these bytes, or the array of a byte tensor; the arguments are from a file, untrusted.

    Checkpoints refer to this function by name: keep its module, name and signature.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"{dtype!r} is not a dtype of numbers")
    if isinstance(data, bytes):
        return np.frombuffer(data, dtype=dtype, count=1)[0]
    if not isinstance(data, Tensor) or data.dtype != torch.uint8 or data.dim() != 1:
        raise ValueError("an array that is not made of bytes")
    return data.numpy().view(dtype).reshape(shape, order="F" if order == "F" else "C")


def _reduce_scalar(value: np.generic) -> tuple[Any, ...]:
    return rebuild, (value.dtype.str, value.tobytes())  # np.longlong returns as np.int64, its equal


def _reduce_array(value: np.ndarray) -> tuple[Any, ...]:
    order = "F" if np.isfortran(value) else "C"
    flat = np.require(value.T if order == "F" else value, requirements=["C", "W"]).reshape(-1)
    return rebuild, (value.dtype.str, torch.from_numpy(flat.view(np.uint8)), value.shape, order)


class Pickler(pickle.Pickler):
    """Pickler for torch.save: NumPy arrays and scalars become calls of `rebuild`, which torch.load may make."""

    dispatch_table = {  # noqa: RUF012  # pickle's name
        **copyreg.dispatch_table,
        np.ndarray: _reduce_array,
        **dict.fromkeys(NUMBERS, _reduce_scalar),
    }
