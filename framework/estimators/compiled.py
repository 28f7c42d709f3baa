"""Compilation of the training loss with torch.compile, and its cache."""

import platform
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from framework.compat import torch_compile
from framework.errors import ConfigError


def compiled(method: Callable[..., Tensor], u: Tensor, evidence: Mapping[str, Tensor]) -> Callable[..., Tensor]:
    """Return a module's loss compiled, forward and backward, for batches of the same shape as this one.

    Afterwards, only the module's weights may change. Raises `ConfigError` if it cannot be compiled.
    """
    loss = torch_compile.compile_method(method, on_cpu=u.device.type == "cpu")
    try:
        loss(u, evidence).backward()
    except Exception as error:
        raise _compile_error(error) from error
    return loss


def keep_compiled_in(directory: Path) -> None:
    """Keep compiled code in `directory`, so that a requeued attempt, on any machine, need not compile again.

    If the user has set TORCHINDUCTOR_CACHE_DIR, that directory is used instead. The code is compiled for
    one processor type and may crash on another, so each type has its own subdirectory.
    """
    if not torch_compile.is_cache_chosen():
        directory.mkdir(exist_ok=True)
        torch_compile.keep_in(directory / _processor())


def _compile_error(error: Exception) -> ConfigError:
    reason = torch_compile.reason_of(error)
    if torch_compile.is_without_compiler(reason):
        remedy = "install a C++ compiler (g++, and Python's headers), or point CXX to one"
    else:
        remedy = "not every network and embedding can be compiled (families NSF, MAF, NICE and RealNVP can)"
    return ConfigError(f"loop.compile=true: {reason}\n{remedy}, or set loop.compile=false")


def _processor() -> str:
    """Return a name for this processor type; on Linux it includes a hash of the instruction set."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{zlib.crc32(instructions.encode()):08x}"
