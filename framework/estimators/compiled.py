"""Compiling the training pass with torch.compile, and keeping what was compiled."""

import os
import platform
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from framework.errors import ConfigError


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Return `function` compiled for inputs of constant shapes. Raises `ConfigError` where nothing can be compiled."""
    warnings.filterwarnings("ignore", module=r"torch\._inductor")  # on torch's own affairs
    torch.compiler.reset()  # torch gives up on a function that is compiled often, as it is for many nodes
    # zuko asserts that a tuple has entries: traced as a check of tensors, that would cut the graph in two.
    torch._dynamo.config.rewrite_assert_with_torch_assert = False
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(4, device=device))
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            f"loop.compile=true: torch.compile does not work here ({str(error).splitlines()[0]}); install a C++ "
            "compiler (g++ and Python's headers), or point CXX to one, or set loop.compile=false"
        ) from error
    return torch.compile(function, dynamic=False)


def keep_compiled_in(directory: Path) -> None:
    """Let what is compiled outlive the process and the node, so that a requeued attempt need not compile again.

    If the user has set TORCHINDUCTOR_CACHE_DIR, that is where it goes. The code is made for one
    kind of processor and may crash on another, so each kind has a subdirectory of its own.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(directory / _processor()))


def _processor() -> str:
    """Return a name for this kind of processor: on Linux, for the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{zlib.crc32(instructions.encode()):08x}"
