"""Look-up of a key's resume class in the schema."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from framework.config.schema import Config, NodeConfig, ResumeClass

INSTRUCTIONS = frozenset(f.name for f in dataclasses.fields(Config) if f.metadata.get("instruction"))
_GROUPS = {f.name for f in dataclasses.fields(Config)} & {f.name for f in dataclasses.fields(NodeConfig)}


def resume_class(path: Sequence[str | int]) -> ResumeClass:
    """Return the resume class of the key at `path`: its own, or that of the nearest enclosing group.

    A node's override (`graph.<node>.loop.batch_size`) has the class of the global key (`loop.batch_size`).
    """
    if len(path) > 2 and path[0] == "graph" and path[2] in _GROUPS:
        return resume_class(path[2:])
    found, hint = None, Config
    for depth, name in enumerate(path):
        if not dataclasses.is_dataclass(hint):
            hint = _element(hint)
            continue
        field = next(f for f in dataclasses.fields(hint) if f.name == name)
        below = field.metadata.get("below", {})
        found = below.get(".".join(map(str, path[depth + 1 :]))) or field.metadata.get("resume") or found
        hint = typing.get_type_hints(hint)[str(name)]
    if found is None:
        raise LookupError(f"{'.'.join(map(str, path))}: no resume class; declare one in framework/config/schema.py")
    return found


def _element(hint: Any) -> Any:
    """Return the type of the entries of `dict[str, X]`, or Any."""
    arguments = typing.get_args(hint)
    return arguments[1] if typing.get_origin(hint) is dict else Any
