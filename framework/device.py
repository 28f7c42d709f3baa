"""Choice of the compute device."""

import torch

from framework.errors import ConfigError


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return the device called `name`; `auto` uses a CUDA device if there is one. Raises `ConfigError`.

    Each process on a machine uses the CUDA device of its `local_rank`, or the only one that it sees.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank is not None and torch.cuda.is_available():
        name = f"cuda:{local_rank % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device={name}: not available here ({reason}); expected auto, cpu, cuda or cuda:1"
        ) from error
    return device
