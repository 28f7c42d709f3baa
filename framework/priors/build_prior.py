"""Construction of priors from their `_target_` blocks."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import Transform

from framework.config.target import accepts, call, locate
from framework.errors import ConfigError
from framework.priors.base import Prior
from framework.priors.wrapper import as_prior
from framework.rng import seed_sequence, seeded


def build_prior(block: Mapping[str, Any], key: str) -> Prior:
    """Build the prior that `block` describes; `key` is its place in the config, as in `priors.z`.

    Its `_target_` is a class of `framework.priors`, a user-defined `Prior`, a torch distribution, whose lists of
    numbers are converted to tensors first, or a function that returns one of these. Raises `ConfigError`.
    """
    try:
        with seeded(seed_sequence(0)):  # a function that draws at random must return the same prior in each process
            return as_prior(call(_with_tensors(block, key), key), key)
    except ConfigError as error:
        if str(error).startswith(key):
            raise
        raise ConfigError(f"{key}: {error}") from error


def _with_tensors(block: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of `block` with tensor arguments for torch distributions and transforms at any depth."""
    target = locate(block, key)
    for_torch = inspect.isclass(target) and issubclass(target, TorchDistribution | Transform)
    arguments = {name: _convert(value, f"{key}.{name}", for_torch) for name, value in block.items() if name != "_args_"}
    positional = [_convert(value, f"{key}._args_", for_torch) for value in block.get("_args_", [])]
    if inspect.isclass(target) and issubclass(target, TorchDistribution) and accepts(target, "validate_args"):
        arguments.setdefault("validate_args", True)  # importing zuko turns torch's default off
    return arguments | {"_args_": positional}


def _convert(value: Any, key: str, for_torch: bool) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return _with_tensors(value, key)
    if isinstance(value, list) and (not for_torch or any(isinstance(item, Mapping) for item in value)):
        return [_convert(item, f"{key}.{index}", for_torch) for index, item in enumerate(value)]
    if for_torch and isinstance(value, float | list):
        return _to_tensor(value, key)
    return value


def _to_tensor(value: Any, key: str) -> torch.Tensor:
    try:
        return torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}={value!r}: expected a number or a list of numbers, nested for a matrix") from error
