"""torch.compile: its settings, where it keeps what it has compiled, and the texts of its errors."""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

CHECKED_ON = ("torch==2.13.0",)

_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compile_method(method: Callable[..., Tensor], on_cpu: bool) -> Callable[..., Tensor]:
    """Compile a module's method as one graph, for arguments of one shape; the module must not be changed afterwards."""
    # zuko asserts that a tuple is not empty: traced as a check of tensors, that would split the graph.
    torch._dynamo.config.rewrite_assert_with_torch_assert = False
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")  # meant for torch's own developers
    logging.getLogger("torch._inductor.ir").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        # To check on every call whether the module has changed takes a tenth of a small flow's step ...
        "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe,
        # ... and half as much to start its kernels from Python. On a GPU this would need the headers of CUDA.
        "cpp_wrapper": on_cpu,
    }
    return torch.compile(with_own_code(method), fullgraph=True, dynamic=False, options=options)


def with_own_code(method: Callable[..., Any]) -> MethodType:
    """Copy a method with its code object: torch caches compiled code by code object, across all modules."""
    assert isinstance(method, MethodType)
    function = method.__func__
    code = function.__code__.replace()
    return MethodType(FunctionType(code, function.__globals__, closure=function.__closure__), method.__self__)


def is_cache_chosen() -> bool:
    """Tell whether the user has set the cache directory; torch sets its own default when parts of it are imported."""
    default = str(Path(tempfile.gettempdir()) / "torchinductor_")
    return not os.environ.get(_CACHE_VARIABLE, default).startswith(default)


def keep_in(directory: Path) -> None:
    """Let torch keep compiled code in this directory."""
    os.environ[_CACHE_VARIABLE] = str(directory)


def reason_of(error: Exception) -> str:
    """Return why something could not be compiled, in one line."""
    return next((line for line in str(error).splitlines() if not line.startswith("backend=")), repr(error))


def is_without_compiler(reason: str) -> bool:
    """Tell whether a C++ compiler is missing."""
    return "compile" in reason.lower()
