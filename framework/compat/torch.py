"""torch: operations on lists of tensors, its file format, and the texts of its errors; see also `torch_compile`."""

import io
import pickle
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any, BinaryIO

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

CHECKED_ON = ("torch==2.13.0",)

FIRST_OPTIMIZER_IMPORTS = "torch._dynamo"  # which takes a second

_crc_lock = threading.Lock()


def total_norm(tensors: list[Tensor]) -> Tensor:
    """Return the norm of tensors on one device; the public `torch.nn.utils.get_total_norm` takes 1.4 times as long."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def scale(tensors: list[Tensor], factor: Tensor) -> None:
    """Multiply tensors on one device by the same number, in place."""
    torch._foreach_mul_(tensors, factor)


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors of one device, each to a tensor of its shape."""
    with torch.no_grad():
        torch._foreach_copy_(targets, sources)


def tensors_in(nested: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dictionaries."""
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]


def map_tensors(change: Callable[[Tensor], Tensor], nested: Any) -> Any:
    """Return nested tuples, lists and dictionaries with each tensor changed."""
    return tree_map_only(Tensor, change, nested)


def save(content: Any, file: BinaryIO, pickler: type[pickle.Pickler], checksums: bool) -> None:
    """Write torch's file format with this pickler; `file` only needs `write` and `flush`.

    `checksums` are those of the zip format; they take a third of the time, and checkpoints have digests of their own.
    """
    with _checksums(checksums):
        torch.save(content, file, SimpleNamespace(__name__="pickle", Pickler=pickler))


def deflated(content: Any, pickler: type[pickle.Pickler]) -> bytes:
    """Return what `save` writes with its records deflated, which torch.load reads like any other."""
    plain, packed = io.BytesIO(), io.BytesIO()
    save(content, plain, pickler, checksums=True)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
        for record in source.namelist():
            target.writestr(zipfile.ZipInfo(record), source.read(record), zipfile.ZIP_DEFLATED, compresslevel=1)
    return packed.getvalue()


@contextmanager
def _checksums(enabled: bool) -> Iterator[None]:
    """Set whether torch.save computes checksums; the setting is global."""
    with _crc_lock:
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(enabled)
        try:
            yield
        finally:
            torch.serialization.set_crc32_options(before)


def load_may_call(*functions: Callable[..., Any]) -> None:
    """Let torch.load call these functions, and `bytes`, which torch.save writes as a call."""
    torch.serialization.add_safe_globals([*functions, (_no_bytes, "builtins.bytes")])


def _no_bytes() -> bytes:
    """Stand in for `bytes()`, which torch.load does not allow by itself."""
    return b""


def is_of_functional(value: object, name: object) -> bool:
    """Tell whether what was found at `name` is a function of torch.nn.functional, and not one that it imports."""
    modules = {FunctionType: ("torch.nn.functional",), BuiltinFunctionType: ("torch", "torch._C._nn")}
    at_home = str(name).rpartition(".")[0] == "torch.nn.functional"
    return at_home and getattr(value, "__module__", None) in modules.get(type(value), ())


def is_lost_rank(error: RuntimeError) -> bool:
    """Tell whether a process of a group could not be reached; errors of gloo have no class of their own."""
    return isinstance(error, dist.DistError) or "gloo/transport/" in str(error)  # the source file they begin with


def first_line(error: BaseException) -> str:
    """Return the message without the position in gloo's sources and without torch's guess at the cause."""
    line = (str(error).strip().splitlines() or [repr(error)])[0]
    return re.sub(r"^\[[^]]*\] ", "", line).split(". ")[0]
