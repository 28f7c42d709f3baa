"""Restrictions on each `_target_` read from a run directory, which may have been written by someone untrusted.

A target is code that is called with arguments from the same directory. It may therefore only name what its place in
the configuration expects: a network, a prior, an optimizer, or code of the user's own project. The object it refers to
and every step of its dotted path are checked, and no module is imported before its owner is known.
"""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from framework.config.code_owner import CodeOwner, owner_of
from framework.config.parse import resolve
from framework.config.target import targets_of, unimportable
from framework.errors import ConfigError, printable
from framework.imports import gc_frozen

_MODULE = "torch.nn.modules.module.Module"
_PRIORS = (
    "framework.priors.base.Prior",
    "torch.distributions.distribution.Distribution",
    "torch.distributions.transforms.Transform",
)
_MAX_SHOWN = 200
_MISSING = object()


@dataclass(frozen=True)
class _Allowed:
    """The targets that are allowed at one place in the configuration."""

    expected: str
    classes: tuple[str, ...] = ()  # these and their subclasses, by full name so that torch need not be imported
    methods: tuple[str, ...] = ()  # a class of the user's project or framework.tracking with these is a tracker
    own: bool = False  # any class or function of the user's project
    functions: bool = False  # any function of torch.nn.functional


_ALLOWED_AT = {
    "network": _Allowed("a torch.nn.Module class", (_MODULE,)),
    "embedding": _Allowed("a torch.nn.Module class", (_MODULE,)),
    "optimizer": _Allowed("a torch.optim.Optimizer class", ("torch.optim.optimizer.Optimizer",)),
    "scheduler": _Allowed("a class of torch.optim.lr_scheduler", ("torch.optim.lr_scheduler.LRScheduler",)),
    "priors": _Allowed("a class of framework.priors or torch.distributions, or your own function", _PRIORS, own=True),
    "simulator": _Allowed("a function or class of your own project", own=True),
    "tracking": _Allowed("a class of framework.tracking, or your own tracker", methods=("log", "cut_back", "close")),
}
_OF_RUN = ("network", "embedding", "optimizer", "priors", "tracking")
_OF_NODES = ("network", "embedding", "optimizer", "simulator")
_ARGUMENT = _Allowed(
    "a class of torch.nn, framework.priors or torch.distributions, a function of torch.nn.functional, or your own code",
    (_MODULE, *_PRIORS),
    own=True,
    functions=True,
)
_NOTHING = _Allowed("no _target_ here")


class _RefusedError(Exception):
    """A target that is not allowed; the text completes "<target> ..."."""


def check_targets(container: Mapping[str, Any], trusted: Mapping[str, Any] | None, where: Path) -> None:
    """Check every `_target_` of a config that was read from the directory `where`, before building anything from it.

    `container` and `trusted` are configs, or parts of them, in plain containers. A target that is the same in
    `trusted`, which the user has composed, is always allowed. Raises `ConfigError` for the first that is not allowed.
    """
    known = targets_of(trusted or {})
    try:
        targets = targets_of(container)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; not a valid config of a run") from error
    for path, target in targets.items():
        if known.get(path, _MISSING) != target:
            allowed = _allowed_at(path, path[:-1] in targets)
            key = f"{'.'.join(map(str, path))}._target_"
            try:
                with gc_frozen():
                    _check_target(target, allowed, where)
            except _RefusedError as error:
                raise ConfigError(
                    printable(f"{where}: {key}={str(target)[:_MAX_SHOWN]} {error}; expected {allowed.expected}. ")
                    + "If you trust whoever wrote the directory, add trust=true"
                ) from error
            except ImportError as error:
                raise ConfigError(printable(f"{where}: {unimportable(key, target, error)}")) from error


def check_recorded(container: Mapping[str, Any], composed: DictConfig, where: Path) -> None:
    """Check the config recorded in `where`, unless the newly composed config contains trust=true."""
    try:
        own = resolve(composed)
    except ConfigError:  # an invalid value counts as trust=false
        own = {}
    if composed.get("trust") is not True:
        check_targets(container, own, where)


def _allowed_at(path: tuple[str | int, ...], is_argument: bool) -> _Allowed:
    """Return what is allowed at `path`; `is_argument` means that the enclosing block has a target itself."""
    of_node = path[:1] == ("graph",)
    rest = path[2:] if of_node else path
    group = str(rest[0]) if rest else ""
    if group not in (_OF_NODES if of_node else _OF_RUN):
        return _NOTHING
    if rest == ("optimizer", "scheduler"):
        return _ALLOWED_AT["scheduler"]
    is_named = group in ("priors", "tracking")  # the target belongs at priors.z, not at priors
    if len(rest) == 2 and group == "embedding" and not is_argument:  # the embedding of one evidence node
        is_named = True
    if len(rest) == 1 + is_named:
        return _ALLOWED_AT[group]
    return _ARGUMENT if len(rest) > 1 else _NOTHING


def _check_target(target: object, allowed: _Allowed, where: Path) -> None:
    """Raise `_RefusedError` unless the target is allowed."""
    if allowed is _NOTHING:
        raise _RefusedError("is never built")
    value = _resolve(target, where, only_own=allowed.own and not allowed.classes)
    fits = _is_own(value, where) if allowed.own else False
    if inspect.isclass(value):
        names = {f"{base.__module__}.{base.__qualname__}" for base in value.__mro__}
        fits = fits or not names.isdisjoint(allowed.classes) or _is_tracker(value, allowed, where)
    if not fits and not (allowed.functions and _is_function_of_torch(value, target)):
        raise _RefusedError("is not allowed here")


def _resolve(target: object, where: Path, only_own: bool) -> object:
    """Return the object at a dotted path, found as Hydra does, but only through modules and classes."""
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(part.isidentifier() and not part.startswith("__") for part in parts):
        raise _RefusedError("is not the path of a class or function")
    found: object = None
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        try:
            value = getattr(found, parts[depth - 1], _MISSING) if depth > 1 else _MISSING
        except Exception as error:  # a module's own __getattr__ may raise anything
            raise ImportError(f"{type(error).__name__}: {error}") from None
        if value is _MISSING and (depth == 1 or isinstance(found, ModuleType)):
            value = _import(name, where, only_own)
        elif isinstance(value, ModuleType):
            if value.__name__ != name:
                raise _RefusedError(f"refers to the module {value.__name__}")
            _check_owner(value.__spec__, name, where, only_own)
        elif value is _MISSING:
            raise ImportError(f"'{'.'.join(parts[: depth - 1])}' has no '{parts[depth - 1]}'")
        elif depth < len(parts) and not inspect.isclass(value):
            raise _RefusedError(f"passes through a {type(value).__name__}")
        found = value
    return found


def _import(name: str, where: Path, only_own: bool) -> ModuleType:
    try:
        spec = importlib.util.find_spec(name)  # its parent packages have been checked and imported
    except (ImportError, ValueError):  # the parent is not a package, or has no spec
        spec = None
    if spec is None and name.partition(".")[0] not in sys.stdlib_module_names:
        raise ImportError(f"No module named '{name}'")
    _check_owner(spec, name, where, only_own)
    try:
        return importlib.import_module(name)
    except Exception as error:  # importing a module may raise anything
        raise ImportError(f"{type(error).__name__}: {error}") from None


def _check_owner(spec: ModuleSpec | None, name: str, where: Path, only_own: bool) -> None:
    """Raise `_RefusedError` unless the module may be imported."""
    owner = owner_of(spec, where)
    if spec and spec.origin is None and owner is not CodeOwner.RUN and owner is not CodeOwner.PYTHON:
        return  # a namespace package: importing it runs no code, and its modules are checked themselves
    if owner is CodeOwner.RUN:
        raise _RefusedError("is code inside a run directory")
    if owner is CodeOwner.PYTHON:
        raise _RefusedError("belongs to Python")
    if owner is CodeOwner.PACKAGE and (only_own or name.rpartition(".")[2].startswith("_")):
        raise _RefusedError("belongs to an installed package")


def _is_own(value: object, where: Path) -> bool:
    """Return whether a class or function is defined in the user's project, rather than imported there."""
    while isinstance(value, functools.partial):
        value = value.func
    module = sys.modules.get(str(getattr(value, "__module__", None)))
    return module is not None and owner_of(module.__spec__, where) in (CodeOwner.USER, CodeOwner.EXPERIMENT)


def _is_tracker(value: type, allowed: _Allowed, where: Path) -> bool:
    ours = value.__module__.startswith("framework.tracking.") or _is_own(value, where)
    return bool(allowed.methods) and ours and all(callable(getattr(value, name, None)) for name in allowed.methods)


def _is_function_of_torch(value: object, target: object) -> bool:
    """Return whether it is a function defined by torch.nn.functional, rather than imported there."""
    if "torch.nn.functional" not in sys.modules:
        return False
    from framework.compat.torch import is_of_functional

    return is_of_functional(value, target)
