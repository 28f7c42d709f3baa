"""Descriptions of values that a checkpoint cannot hold, and what to write instead."""

import random
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from enum import Enum
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BY_TYPE: tuple[tuple[Any, str], ...] = (  # the first match applies
    (Enum, "its .name or .value"),
    (PathLike, "str(...)"),
    ((date, time), "its .isoformat()"),
    (timedelta, "its .total_seconds()"),
    (slice, "its .start, .stop and .step"),
    (np.random.Generator, "its .bit_generator.state"),
    (np.random.BitGenerator, "its .state"),
    ((np.random.RandomState, torch.Generator), "its .get_state()"),
    (random.Random, "its .getstate()"),
    (np.ma.MaskedArray, "its .data and .mask"),
    (np.str_, "str(...)"),
    (np.bytes_, "bytes(...)"),
    (np.floating, "float(...)"),
    (np.complexfloating, "complex(...)"),
    (np.generic, "its .item()"),
    (bool, "bool(...)"),
    (int, "int(...)"),
    (float, "float(...)"),
    (complex, "complex(...)"),
    (str, "str(...)"),
    ((bytes, memoryview), "bytes(...)"),
    (deque, "list(...)"),
)
_BY_DTYPE = {  # NumPy's kinds
    "V": "one array for each field",
    "M": "its .astype('int64')",
    "m": "its .astype('int64')",
    "f": "its .astype('float64')",
    "c": "its .astype('complex128')",
}
_IN_JSON: tuple[tuple[Any, str], ...] = (
    ((Tensor, np.ndarray), "its .tolist()"),
    (np.generic, "its .item()"),
    ((bytes, bytearray), "its .hex()"),
    (complex, "its .real and .imag"),
    ((torch.dtype, torch.device, torch.layout), "str(...)"),
)


def describe(value: Any) -> str:
    """Return a description of the type of `value` for error messages."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    name = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    if isinstance(value, np.ndarray):
        return f"{name} of dtype {value.dtype}"
    if isinstance(value, Tensor):
        return f"{name} of {value.dtype}, {value.layout}, on {value.device}"
    return name


def replacement(value: Any, in_json: bool) -> str:
    """Return what to write instead of `value`, as text that follows the word "write"."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # a namedtuple
        return "its ._asdict()"
    for kinds, words in (*(_IN_JSON if in_json else ()), *_BY_TYPE):
        if isinstance(value, kinds):
            return words
    if isinstance(value, Tensor):
        return _tensor_replacement(value)
    if isinstance(value, np.ndarray):
        return "np.asarray(...)" if type(value) is not np.ndarray else _BY_DTYPE.get(value.dtype.kind, "its .tolist()")
    if isinstance(value, type) or callable(getattr(value, "__get__", None)):  # a class or function
        return "its name, and look it up when you load"
    if is_dataclass(value):
        return "dataclasses.asdict(...)"
    if hasattr(value, "state_dict"):
        return "its .state_dict()"
    for kind, words in ((Mapping, "dict(...)"), (Set, "list(...)"), (Sequence, "list(...)")):
        if isinstance(value, kind):
            return words
    return "the numbers, text, tensors and arrays that it consists of"


def _tensor_replacement(value: Tensor) -> str:
    if value.is_nested:
        return "list(....unbind())"
    if value.is_quantized:
        return "its .int_repr(), scale and zero point"
    if value.layout is not torch.strided:
        return "its .to_dense()"
    if value.is_meta:
        return "a tensor that has data"
    if type(value) not in (Tensor, torch.nn.Parameter):
        return "its .as_subclass(torch.Tensor), or a tensor of its data"
    return "its .to(torch.uint8)"
