"""Compiling the training pass with torch.compile, and keeping what was compiled."""

import logging
import os
import platform
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from framework.errors import ConfigError

_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compiled(method: Callable[..., Tensor], u: Tensor, evidence: Mapping[str, Tensor]) -> Callable[..., Tensor]:
    """Return a module's loss compiled, forwards and backwards, for batches of the shape of this one.

    The module must not change from then on, but for its weights. Raises `ConfigError` where it cannot be compiled.
    """
    # zuko asserts that a tuple has entries: traced as a check of tensors, that would break the graph in two.
    torch._dynamo.config.rewrite_assert_with_torch_assert = False
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")  # of torch to its own developers
    logging.getLogger("torch._inductor.ir").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        # To look on every call whether the module has changed takes a tenth of a small flow's step ...
        "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe,
        # ... and half as much to start its kernels from Python. On a GPU this would need the headers of CUDA.
        "cpp_wrapper": u.device.type == "cpu",
    }
    loss = torch.compile(_with_own_code(method), fullgraph=True, dynamic=False, options=options)
    try:
        loss(u, evidence).backward()
    except Exception as error:
        raise _refusal(error) from error
    return loss


def keep_compiled_in(directory: Path) -> None:
    """Let what is compiled outlive the process and the node, so that a requeued attempt need not compile again.

    If the user has set TORCHINDUCTOR_CACHE_DIR, that is where it goes. The code is made for one
    kind of processor and may crash on another, so each kind has a subdirectory of its own.
    """
    torchs_default = str(Path(tempfile.gettempdir()) / "torchinductor_")  # torch sets it itself when parts are imported
    if os.environ.get(_CACHE_VARIABLE, torchs_default).startswith(torchs_default):
        directory.mkdir(exist_ok=True)
        os.environ[_CACHE_VARIABLE] = str(directory / _processor())


def _refusal(error: Exception) -> ConfigError:
    reason = next((line for line in str(error).splitlines() if not line.startswith("backend=")), repr(error))
    if "compile" in reason.lower():
        remedy = "install a C++ compiler (g++, and Python's headers), or point CXX to one"
    else:
        remedy = "not every network and embedding can be compiled (families NSF, MAF, NICE and RealNVP can)"
    return ConfigError(f"loop.compile=true: {reason}\n{remedy}; loop.compile=false does without")


def _with_own_code(method: Callable[..., Any]) -> MethodType:
    """Copy a method together with its code object: torch goes by that to find what it has compiled, of any module."""
    assert isinstance(method, MethodType)
    function = method.__func__
    code = function.__code__.replace()
    return MethodType(FunctionType(code, function.__globals__, closure=function.__closure__), method.__self__)


def _processor() -> str:
    """Return a name for this kind of processor: on Linux, for the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{zlib.crc32(instructions.encode()):08x}"
