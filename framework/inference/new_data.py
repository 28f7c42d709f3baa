"""Validation of data that users pass instead of a run's own observations."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from framework.errors import ConfigError
from framework.graph import with_rows


def evidence_rows(
    x: object, shapes: Mapping[str, tuple[int, ...]], needed: set[str]
) -> tuple[dict[str, Tensor], int | None]:
    """Return {node: (rows, *event_shape)} for `x`, and its number of observations, None if there is no such axis.

    `x` is {node: value}, with names from `shapes`; if only one node is `needed`, it may be that node's value. A value
    is one observation, with the node's event shape, or several, with a leading axis. All values must have the same
    number of observations, or a single one, which is used with each of the others. Raises `ConfigError`.
    """
    if not isinstance(x, Mapping):
        if len(needed) > 1:
            example = ", ".join(f"'{name}': ..." for name in shapes if name in needed)
            raise ConfigError(f"x: a {type(x).__name__}, expected a value for each evidence node, {{{example}}}")
        return evidence_rows({next(iter(needed)): x}, shapes, needed)
    rows, lengths = {}, {}
    for name, value in x.items():
        if name not in shapes:
            raise ConfigError(f"x['{name}']: not an evidence node, only {', '.join(shapes)}")
        key, shape = f"x['{name}']", shapes[name]
        array = numbers(value, key)
        if num_bad := int((~np.isfinite(array)).sum()):
            raise ConfigError(f"{key}: {num_bad} of {array.size} values are NaN or infinite; expected numbers only")
        rows[name] = torch.from_numpy(with_rows(array, shape, key, "value"))
        if array.ndim and array.shape != shape:
            lengths[name] = len(rows[name])
    num_observations = max(lengths.values(), default=None)
    for name, length in lengths.items():
        if length == 0 or length not in (1, num_observations):
            most = max(lengths, key=lengths.__getitem__)
            raise ConfigError(
                f"x['{name}']: {length} observations, x['{most}'] has {num_observations}; expected the same number"
            )
    return rows, num_observations


def numbers(value: object, key: str) -> np.ndarray:
    """Convert numbers in any form to a float32 array; raises `ConfigError`."""
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError) as error:  # rows of different lengths, for example
        raise ConfigError(f"{key}: cannot be converted to an array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{key}={value!r:.50}: expected numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
