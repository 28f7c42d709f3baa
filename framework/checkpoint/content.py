"""Copies of checkpoint content. Only values that are restored exactly are accepted; others are refused by path.

Saving must copy containers anyway, since training changes them; this is that copy.
"""

import re
import reprlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from framework.checkpoint.advice import describe, replacement
from framework.checkpoint.arrays import NUMBERS
from framework.checkpoint.durable_file import is_json
from framework.checkpoint.manifest import RESERVED, is_file_name
from framework.checkpoint.save_errors import StateError

_JSON_CONSTANTS: frozenset[Any] = frozenset({float, str, bool, type(None)})
_CONSTANTS = _JSON_CONSTANTS | NUMBERS | {bytes, complex, torch.dtype, torch.Size, torch.device, torch.layout}
_INTEGER_BITS = 2031  # torch.load does not read longer ones
_LARGEST = 2**_INTEGER_BITS - 1
_DEEPEST = 100  # containers that contain themselves are refused here, instead of by a RecursionError
_WHOLE_BYTES = re.compile(r"torch\.(bool|u?int(8|16|32|64)|b?float\d+\w*|complex\d+)")
_DTYPES = frozenset(t for t in vars(torch).values() if isinstance(t, torch.dtype) and _WHOLE_BYTES.fullmatch(str(t)))
_A_KEY = object()


class _RefusedError(Exception):
    """A value that cannot be saved; its path is completed while the exception propagates."""

    def __init__(self, value: Any, reason: str) -> None:
        super().__init__(reason)
        self._found = value
        self._path: list[Any] = []

    def add_key(self, container: Any, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Prepend the key of `container` under which the value was found, unless it is a key itself."""
        if self._found is not _A_KEY:
            self._path.insert(0, next(key for key, item in pairs if item is self._found))
        self._found = container

    def message(self, name: str) -> str:
        """Return the message with the value's path below `name`."""
        keys = [key if isinstance(key, str) else reprlib.repr(key) for key in self._path]
        if len(keys) > 12:
            keys[6:-3] = ["..."]
        return f"{': '.join(filter(None, (name, '.'.join(keys))))} {self}"


class JsonCopier:
    """Copier of values that JSON restores exactly: text, numbers, True, False and None in lists and dicts."""

    constants: ClassVar[frozenset[Any]] = _JSON_CONSTANTS
    in_json = True

    def copy(self, content: Any, name: str = "") -> Any:
        """Return a copy; raises `StateError` for what would not be restored exactly, with its path in `name`."""
        try:
            return self._copy(content, 0)
        except _RefusedError as refused:
            raise StateError(refused.message(name)) from None

    def _copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in self.constants or (kind is int and -_LARGEST <= value <= _LARGEST):
            return value
        copy = self.copies.get(kind)
        if copy is None or depth > _DEEPEST:
            raise _RefusedError(value, self._reason(value, depth))
        return copy(self, value, depth + 1)

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        constants, copy = self.constants, self._copy
        try:
            return {
                key if type(key) is str else self._key(key): item if type(item) in constants else copy(item, depth)
                for key, item in value.items()
            }
        except _RefusedError as refused:
            refused.add_key(value, value.items())
            raise

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        kinds = set(map(type, value))
        if kinds <= self.constants or (kinds == {int} and min(value) >= -_LARGEST and max(value) <= _LARGEST):
            return list(value)  # avoids a call for each of the thousands of numbers in histories and generators
        try:
            return [item if type(item) in self.constants else self._copy(item, depth) for item in value]
        except _RefusedError as refused:
            refused.add_key(value, enumerate(value))
            raise

    def _key(self, key: Any) -> Any:
        if self._is_key(key):
            return key
        raise _RefusedError(_A_KEY, f"has the key {reprlib.repr(key)}, {self._advice(key, 'str(...)')}")

    def _is_key(self, key: Any) -> bool:
        return type(key) is str

    def _reason(self, value: Any, depth: int = 0) -> str:
        if depth > _DEEPEST:
            return f"is nested more than {_DEEPEST} levels deep, or contains itself: flatten it"
        if type(value) is int:
            return f"has {value.bit_length()} bits, more than {_INTEGER_BITS}: write hex(...)"
        return f"is {self._advice(value, replacement(value, self.in_json))}"

    def _advice(self, value: Any, instead: str) -> str:
        return f"{describe(value)}, which {'JSON' if self.in_json else 'a checkpoint'} cannot hold: write {instead}"

    copies: ClassVar[dict[type, Callable[[Any, Any, int], Any]]] = {dict: _dict, list: _list}


class TorchCopier(JsonCopier):
    """Copier of values that torch's format restores exactly: also tensors, NumPy arrays and numbers, tuples, sets.

    `copy_tensor` returns None for a tensor that is not plain (see `is_plain`).
    """

    constants = _CONSTANTS
    in_json = False

    def __init__(
        self, copy_tensor: Callable[[Tensor], Tensor | None], copy_array: Callable[[np.ndarray], np.ndarray] = np.copy
    ) -> None:
        self._copy_tensor = copy_tensor
        self._copy_array = copy_array

    def _copy(self, value: Any, depth: int) -> Any:
        if type(value) is Tensor and (copied := self._copy_tensor(value)) is not None:  # the most frequent case
            return copied
        return super()._copy(value, depth)

    def _ordered(self, value: OrderedDict[Any, Any], depth: int) -> OrderedDict[Any, Any]:
        """Copy a module's state_dict, which stores version numbers in an attribute."""
        copied = OrderedDict(self._dict(value, depth))
        try:
            vars(copied).update(self._dict(vars(value), depth))
        except _RefusedError as refused:
            refused.add_key(value, [("__dict__", vars(value))])
            raise
        return copied

    def _set(self, value: set[Any], depth: int) -> set[Any]:
        try:
            return {self._key(item) for item in value}
        except _RefusedError as refused:
            refused.add_key(value, ())
            raise

    def _tensor(self, value: Tensor, depth: int) -> Tensor:
        copied = self._copy_tensor(value)
        if copied is None:
            raise _RefusedError(value, self._reason(value))
        return copied

    def _array(self, value: np.ndarray, depth: int) -> np.ndarray:
        if value.dtype.type in NUMBERS:
            return self._copy_array(value)
        raise _RefusedError(value, self._reason(value))

    def _is_key(self, key: Any) -> bool:
        kind = type(key)
        if kind is tuple:
            return all(map(self._is_key, key))
        return kind in self.constants or (kind is int and -_LARGEST <= key <= _LARGEST)

    copies = JsonCopier.copies | {
        Tensor: _tensor,
        torch.nn.Parameter: _tensor,
        np.ndarray: _array,
        tuple: lambda self, value, depth: tuple(self._list(value, depth)),
        OrderedDict: _ordered,
        Counter: lambda self, value, depth: Counter(self._dict(value, depth)),
        set: _set,
        bytearray: lambda self, value, depth: bytearray(value),
    }


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is dense and has data of a supported dtype."""
    is_dense = tensor.layout is torch.strided and not tensor.is_nested
    return is_dense and tensor.dtype in _DTYPES and not tensor.is_meta


def copy_files(
    files: Mapping[str, Any], metadata: Mapping[str, Any], copier: TorchCopier
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return copies of a checkpoint's files and metadata; raises `StateError` for what could not be restored."""
    for name in files:
        if not is_file_name(name):
            raise StateError(f"{name!r} is not a valid file name in a checkpoint: use a name such as z/state.pth")
    for name in RESERVED.intersection(metadata):
        raise StateError(f"metadata: {name} is reserved for the manifest: choose another name")
    json = JsonCopier()
    copies = {name: (json if is_json(name) else copier).copy(content, name) for name, content in files.items()}
    return copies, json.copy(dict(metadata), "metadata")
