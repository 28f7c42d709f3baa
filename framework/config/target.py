"""Building the parts that users swap: mappings with a `_target_`, checked before they are called."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hydra.utils import get_object

from framework.errors import ConfigError

_SPECIAL_KEYS = {"_target_", "_partial_", "_args_"}


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the valid name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def build(block: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Call `block["_target_"]` with the block's other keys.

    Nested blocks are built first. `extra` arguments are passed where the target accepts them.
    A function (rather than a class) is returned as is, with its arguments bound, not called.
    `key` is the block's place in the config, for error messages. Raises `ConfigError`.
    """
    return _build(block, key, inspect.isclass, extra)


def call(block: Mapping[str, Any], key: str) -> Any:
    """Do the same, and call functions too, also those of nested blocks: what they return is asked for."""
    return _build(block, key, callable, {})


def _build(block: Mapping[str, Any], key: str, is_called: Callable[[object], bool], extra: Mapping[str, Any]) -> Any:
    target = locate(block, key)
    named = {name: value for name, value in block.items() if name not in _SPECIAL_KEYS}
    kwargs = {name: _build_value(value, f"{key}.{name}", is_called) for name, value in named.items()}
    kwargs |= {name: value for name, value in extra.items() if name not in kwargs and accepts(target, name)}
    args = [_build_value(value, f"{key}._args_", is_called) for value in block.get("_args_", [])]
    try:
        if block.get("_partial_", False) or not is_called(target):
            return functools.partial(target, *args, **kwargs) if args or kwargs else target
        return target(*args, **kwargs)
    except ConfigError:
        raise
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"{key}: {block['_target_']} refused its arguments: {' '.join(str(error).split())}"
        ) from error


def locate(block: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Import the block's `_target_` and check its keys against the target's signature."""
    if not isinstance(block, Mapping) or "_target_" not in block:
        raise ConfigError(f"{key}: expected a mapping with a _target_, got {block!r}")
    path = block["_target_"]
    try:
        target: Callable[..., Any] = get_object(path)
    except Exception as error:
        raise ConfigError(
            f"{key}._target_={path}: cannot be imported ({error.__cause__ or error}); "
            "expected a dotted path to a class or function that python can import from here"
        ) from error
    _check_keys(target, block, key)
    return target


def targets_in(value: Any) -> set[str]:
    """Return every `_target_` in nested containers."""
    if isinstance(value, Mapping):
        own = {value["_target_"]} if "_target_" in value else set()
        return own.union(*map(targets_in, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(targets_in, value))
    return set()


def accepts(target: Callable[..., Any], name: str) -> bool:
    """Tell whether `target` takes a keyword argument called `name`."""
    parameters, open_ended = _parameters(target)
    return open_ended or name in parameters


def _build_value(value: Any, key: str, is_called: Callable[[object], bool]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _build(value, key, is_called, {})
        return {name: _build_value(item, f"{key}.{name}", is_called) for name, item in value.items()}
    if isinstance(value, list):
        return [_build_value(item, f"{key}.{index}", is_called) for index, item in enumerate(value)]
    return value


def _check_keys(target: Callable[..., Any], block: Mapping[str, Any], key: str) -> None:
    parameters, open_ended = _parameters(target)
    if open_ended:
        return
    for name in block.keys() - _SPECIAL_KEYS:
        if name not in parameters:
            raise ConfigError(
                f"{key}.{name}={block[name]}: {block['_target_']} takes no '{name}', only "
                f"{', '.join(sorted(parameters)) or 'nothing'}{suggest(name, parameters)}"
            )


def _parameters(target: Callable[..., Any]) -> tuple[set[str], bool]:
    """Return the keyword parameters of `target`, and whether it takes any keyword at all."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return set(), True
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)
