"""Which device to compute on."""

import torch

from framework.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes a CUDA device if there is one. Raises `ConfigError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device={name}: not available here ({reason}); expected auto, cpu, cuda or cuda:1"
        ) from error
    return device
