"""Conversion of the composed configuration to typed dataclasses; every error is a `ConfigError` that names the key."""

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.config.duration import parse_duration
from framework.config.renamed import current_word
from framework.config.run_location import check_name
from framework.config.schema import Config, InferenceConfig, LoopConfig, NodeConfig
from framework.config.target import MAX_DEPTH, suggest
from framework.errors import ConfigError

T = TypeVar("T")

_LARGEST = 2**31 - 1  # upper limit for integers


@dataclasses.dataclass
class NodeSettings:
    """The training settings of one inferred node: the global groups with the node's overrides applied."""

    network: dict[str, Any]
    embedding: dict[str, Any] | None
    optimizer: dict[str, Any]
    loop: LoopConfig
    inference: InferenceConfig
    own_keys: frozenset[str] = frozenset()  # keys that the node overrides, such as "loop.num_epochs"

    def key_of(self, node: str, key: str) -> str:
        """Return the full key that sets `key` for the node."""
        return f"graph.{node}.{key}" if key in self.own_keys else key


def parse_config(composed: DictConfig) -> Config:
    """Check the composed configuration against the schema; durations become seconds."""
    return from_container(resolve(composed))


def from_container(container: Mapping[str, Any]) -> Config:
    """Build the configuration from plain resolved containers, as stored in a run's `config.yaml`."""
    _check_texts(container, "")
    config = _dataclass(Config, container, "")
    check_name(config.name)
    for name in config.graph:
        if not name.isidentifier():
            raise ConfigError(f"graph.{name}: a node's name must be a Python identifier such as 'z' or 'theta_1'")
        node_settings(config, name)
    return config


def parse_group(kind: type[T], values: Mapping[str, Any], key: str) -> T:
    """Build a dataclass from the group at `key`."""
    return _dataclass(kind, values, key)


def resolve(composed: DictConfig) -> dict[str, Any]:
    """Return plain containers with all interpolations resolved, without the `hydra` group."""
    try:
        return {str(key): _resolved(composed[key]) for key in composed if key != "hydra"}
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key or 'config'}: {reason}") from error


def _resolved(value: Any) -> Any:
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    return value


def node_settings(config: Config, name: str) -> NodeSettings:
    """Return the settings of node `name`."""
    node = config.graph[name]
    return NodeSettings(
        network=_merge(config.network, node.network),
        embedding=_node_embedding(config.embedding or {}, node) or None,
        optimizer=_merge(config.optimizer, node.optimizer),
        loop=_override(config.loop, node.loop, f"graph.{name}.loop"),
        inference=_override(config.inference, node.inference, f"graph.{name}.inference"),
        own_keys=frozenset(f"{group}.{key}" for group in ("loop", "inference") for key in getattr(node, group)),
    )


def graph_container(config: Config) -> dict[str, dict[str, Any]]:
    """Return the nodes as plain mappings, without the keys that override global groups."""
    overrides = {f.name for f in dataclasses.fields(NodeSettings)} & {f.name for f in dataclasses.fields(NodeConfig)}
    return {
        name: {key: value for key, value in vars(node).items() if key not in overrides}
        for name, node in config.graph.items()
    }


def _node_embedding(base: Mapping[str, Any], node: NodeConfig) -> dict[str, Any]:
    """Return one block for all of the node's evidence, or one per evidence node if the node lists them by name."""
    if not node.embedding or not node.embedding.keys() <= set(node.evidence):
        return _merge(base, node.embedding)
    return {name: _merge(base, node.embedding.get(name, {})) for name in node.evidence}


def _merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `override` into `base`; a block with another `_target_` replaces the base, whose keys no longer apply."""
    if override.get("_target_", base.get("_target_")) != base.get("_target_"):
        return dict(override)
    merged = dict(base)
    for name, value in override.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merge(merged[name], value) if both else value
    return merged


def _override(base: Any, override: Mapping[str, Any], key: str) -> Any:
    return _dataclass(type(base), dataclasses.asdict(base) | dict(override), key)


def _dataclass(cls: type[T], value: Any, key: str) -> T:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}={value}: expected a group of keys, not a single value")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for name in value:
        if name not in fields:
            raise ConfigError(f"{_join(key, name)}={value[name]}: no such key{suggest(str(name), fields)}")
    arguments = {}
    for name, item in value.items():
        arguments[name] = _value(hints[name], item, _join(key, name), fields[name].metadata)
    built = cls(**arguments)
    for name in fields:
        if getattr(built, name) == MISSING:
            raise ConfigError(f"{_join(key, name)}: not set; write {_join(key, name)}=...")
    return built


def _value(hint: Any, value: Any, key: str, metadata: Mapping[str, Any]) -> Any:
    if value is None and _accepts_none(hint):
        return None
    if hint is Any:  # an argument of a component that users supply: any number may be meant
        return value
    hint = _plain(hint, metadata)
    if value is None:
        raise ConfigError(f"{key}=null: expected {_describe(hint, metadata)}")
    value = current_word(value, key, metadata.get("renamed", {}))
    if value in metadata.get("choices", ()):
        return value
    if metadata.get("duration"):
        return _duration(value, key, metadata)
    converted = _convert(hint, value, key, metadata)
    if isinstance(converted, int | float) and not isinstance(converted, bool):
        _check_limits(converted, key, metadata)
    elif "choices" in metadata:
        raise ConfigError(
            f"{key}={value}: expected {_describe(hint, metadata)}{suggest(str(value), metadata['choices'])}"
        )
    return converted


def _convert(hint: Any, value: Any, key: str, metadata: Mapping[str, Any]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), value, key)
    if origin is dict and isinstance(value, Mapping):
        return {name: _value(arguments[1], item, f"{key}.{name}", {}) for name, item in value.items()}
    if origin is list and isinstance(value, list):
        return [_value(arguments[0], item, f"{key}.{index}", {}) for index, item in enumerate(value)]
    if hint is Any or (hint is str and isinstance(value, str)) or (hint is bool and isinstance(value, bool)):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and is_number and (isinstance(value, int) or value.is_integer()):
        return int(value)  # 1e5 is a valid number of simulations
    if hint is float and is_number:
        return float(value) if isinstance(value, float) or abs(value) <= sys.float_info.max else math.inf
    raise ConfigError(f"{key}={value}: expected {_describe(hint, metadata)}")


def _duration(value: Any, key: str, metadata: Mapping[str, Any]) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        words = "".join(f"{word}, or " for word in metadata.get("choices", ()))
        raise ConfigError(f"{key}={value}: expected {words}{str(error).removeprefix('expected ')}") from error


def _check_limits(value: float, key: str, metadata: Mapping[str, Any]) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{key}={value}: expected a finite number")
    if value < metadata.get("minimum", value):
        raise ConfigError(f"{key}={value}: expected at least {metadata['minimum']}")
    if value <= metadata.get("above", float("-inf")):
        raise ConfigError(f"{key}={value}: expected more than {metadata['above']}")
    largest = metadata.get("maximum", _LARGEST if isinstance(value, int) else value)
    if value > largest:
        raise ConfigError(f"{key}={value}: expected at most {largest}")


def _describe(hint: Any, metadata: Mapping[str, Any]) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    kinds = {list: "a list", dict: "a group of keys"}
    words = " or ".join(metadata.get("choices", ()))
    kind = names.get(hint) or kinds.get(typing.get_origin(hint), "a group of keys")
    return words if words and hint is str else f"{words} or {kind}" if words else kind


def _accepts_none(hint: Any) -> bool:
    return hint is Any or types.NoneType in typing.get_args(hint)


def _plain(hint: Any, metadata: Mapping[str, Any]) -> Any:
    """Reduce `float | str | None` to `float`: the caller handles None, and `choices` the words."""
    if not isinstance(hint, types.UnionType):
        return hint
    options = [option for option in typing.get_args(hint) if option is not types.NoneType]
    return next(option for option in options if option is not str or len(options) == 1)


def _check_texts(value: Any, key: str, depth: int = 0) -> None:
    """Check that keys are text at every depth and that all text is valid UTF-8, because run records are JSON."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{key}={value!r}: expected text in UTF-8") from None
    if depth > MAX_DEPTH:
        raise ConfigError(f"{key.partition('.')[0]}: nested more than {MAX_DEPTH} levels deep")
    for name, item in value.items() if isinstance(value, Mapping) else ():
        if not isinstance(name, str) or not name.isprintable():
            raise ConfigError(
                f"{_join(key, name)}={item}: a key must be text without control characters; write it in quotes"
            )
        _check_texts(item, _join(key, name), depth + 1)
    for index, item in enumerate(value) if isinstance(value, list) else ():
        _check_texts(item, _join(key, index), depth + 1)


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
