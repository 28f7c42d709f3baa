"""Instantiation of `_target_` blocks, whose arguments are checked before the call."""

import difflib
import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from hydra.utils import get_object

from framework.compat.hydra import log_no_failed_imports
from framework.errors import ConfigError, printable

T = TypeVar("T")

log_no_failed_imports()  # this module reports failed imports itself

MAX_DEPTH = 64  # levels of nesting in a configuration
_MAX_VALUES = 100_000  # groups and lists in a configuration
_MAX_SHOWN = 300  # characters of a block's arguments in a message
_SPECIAL_KEYS = {"_target_", "_partial_", "_args_"}


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the valid name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def build(block: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Call `block["_target_"]` with the block's other keys.

    Nested blocks are built first. `extra` arguments are passed if the target accepts them.
    A function (rather than a class) is not called but returned, with its arguments bound.
    `key` is the block's place in the config, for error messages. Raises `ConfigError`.
    """
    return _build(block, key, inspect.isclass, extra)


def call(block: Mapping[str, Any], key: str) -> Any:
    """Do the same as `build`, but call functions as well, including those of nested blocks."""
    return _build(block, key, callable, {})


def _build(block: Mapping[str, Any], key: str, is_called: Callable[[object], bool], extra: Mapping[str, Any]) -> Any:
    target = locate(block, key)
    named = {name: value for name, value in block.items() if name not in _SPECIAL_KEYS}
    kwargs = {name: _build_value(value, f"{key}.{name}", is_called) for name, value in named.items()}
    kwargs |= {name: value for name, value in extra.items() if name not in kwargs and accepts(target, name)}
    args = _build_value(block.get("_args_", []), f"{key}._args_", is_called)
    try:
        if block.get("_partial_", False) or not is_called(target):
            return functools.partial(target, *args, **kwargs) if args or kwargs else target
        return target(*args, **kwargs)
    except ConfigError:
        raise
    except Exception as error:  # a constructor may raise any exception for a wrong argument
        raise ConfigError(
            f"{key}: {block['_target_']} rejected its arguments: {reason_of(error)}{shown(block)}"
        ) from error


def build_part(kind: type[T], block: Mapping[str, Any], key: str, **extra: Any) -> T:
    """Build the block and check that the result is an instance of `kind`."""
    part = build(block, key, **extra)
    if not isinstance(part, kind):
        raise ConfigError(
            f"{key}._target_={block['_target_']}: expected a subclass of {kind.__module__}.{kind.__name__}"
        )
    return part


def locate(block: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Import the block's `_target_` and check its keys against the target's signature."""
    if not isinstance(block, Mapping) or "_target_" not in block:
        raise ConfigError(f"{key}: expected a mapping with a _target_, got {block!r}")
    path = block["_target_"]
    if not isinstance(block.get("_args_", []), list):
        raise ConfigError(f"{key}._args_={block['_args_']}: expected a list")
    try:
        if not isinstance(path, str):
            raise TypeError(f"{type(path).__name__} is not text")
        target: Callable[..., Any] = get_object(path)
    except Exception as error:
        raise ConfigError(unimportable(f"{key}._target_", path, error)) from error
    if not callable(target):
        raise ConfigError(f"{key}._target_={path}: is a {type(target).__name__}, expected a class or function")
    _check_keys(target, block, key)
    return target


def unimportable(key: str, path: object, error: Exception) -> str:
    """Return the message for a target that cannot be imported."""
    return (
        f"{key}={path}: cannot be imported ({' '.join(str(error.__cause__ or error).split())}); "
        "expected the dotted path of a class or function that Python can import from here"
    )


def targets_of(container: Any) -> dict[tuple[str | int, ...], Any]:
    """Return every `_target_` in nested containers, keyed by the path of its block.

    Raises `ConfigError` for containers that are too deep or too large, such as one that contains itself.
    """
    found: dict[tuple[str | int, ...], Any] = {}
    to_do: deque[tuple[tuple[str | int, ...], Any]] = deque([((), container)])
    for _ in range(_MAX_VALUES):
        if not to_do:
            return found
        path, value = to_do.popleft()
        if isinstance(value, Mapping) and "_target_" in value:
            found[path] = value["_target_"]
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        to_do += [((*path, name), item) for name, item in items if isinstance(item, Mapping | list)]
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"{printable(str(path[0]))}: nested more than {MAX_DEPTH} levels deep")
    raise ConfigError(f"more than {_MAX_VALUES} groups and lists")


def shown(block: Mapping[str, Any]) -> str:
    """Return ` (name=value, ...)` with all keys of the block, so that the message shows the wrong one."""
    text = ", ".join(f"{name}={value}" for name, value in block.items() if name not in _SPECIAL_KEYS)
    return f" ({text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}…'})" if text else ""


def reason_of(error: Exception) -> str:
    """Return an exception as one line, without its type if that is one of the usual ones for a wrong argument."""
    text = " ".join(str(error).split())
    if text and isinstance(error, TypeError | ValueError | AssertionError | RuntimeError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def accepts(target: Callable[..., Any], name: str) -> bool:
    """Return whether `target` takes a keyword argument called `name`."""
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
    """Return the keyword parameters of `target`, and whether it also accepts arbitrary keywords."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return set(), True
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)
