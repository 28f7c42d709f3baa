"""Names of a node's parameters in tables and figures."""

import math
from collections.abc import Sequence
from typing import Any

from framework.errors import ConfigError
from framework.graph.layout import layout_of
from framework.graph.node import Node

_PARTS = {"numbers": "number", "series": "series", "images": "channel", "flat": "number"}


def parameter_names(node: str, dim: int, labels: Sequence[str] = ()) -> list[str]:
    """Return the labels if given, else `z[0]`, `z[1]`, ..., or just `z` for a single parameter."""
    if labels:
        return list(labels)
    return [node] if dim == 1 else [f"{node}[{i}]" for i in range(dim)]


def read_labels(value: Any, key: str) -> tuple[str, ...]:
    """Return the labels from the config; raises `ConfigError` unless they are distinct texts."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key}={value}: expected a list with one text for each parameter, such as [rate, half-life]")
    for label in value:
        if not isinstance(label, str) or not label.strip():
            raise ConfigError(f"{key}={list(value)}: {label!r} is not text; write each label as text, such as 'rate'")
        if value.count(label) > 1:
            raise ConfigError(f"{key}={list(value)}: '{label}' is listed twice; expected distinct labels")
    return tuple(value)


def check_labels(node: Node, event_shape: Sequence[int]) -> None:
    """Check that a node has no labels or one per parameter; for observed nodes, one per part of `layout_of`."""
    layout, parts = layout_of(event_shape)
    is_parameter = node.is_inferred or node.prior is not None
    expected = math.prod(event_shape) if is_parameter else len(parts)
    what = "parameter" if is_parameter else _PARTS[layout]
    if node.labels and len(node.labels) != expected:
        raise ConfigError(
            f"graph.{node.name}.labels={list(node.labels)}: {len(node.labels)} given, expected {expected}, "
            f"one for each {what} of '{node.name}'"
        )
