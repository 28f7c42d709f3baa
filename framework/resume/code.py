"""Digests of the user's own code behind every `_target_`, without running any of it."""

import ast
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import xxhash

from framework.config.code_owner import CodeOwner, owner_of

_MAX_FILES = 500  # of the user's, for each target: what lies deeper in a large library is not followed
_GROUPS = ("graph", "priors", "network", "embedding", "optimizer")  # what the training depends on


def code_digests(container: Mapping[str, Any]) -> dict[str, str]:
    """Return {target: digest} for the targets whose code is the user's: not the framework, not installed.

    The digest is of the target's module and of all that it imports of the user's code, as the
    import statements tell.
    """
    targets = sorted({target for group in _GROUPS for target in _targets(container.get(group))})
    return {target: digest for target in targets if (digest := _digest(target))}


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _targets(item)


def _digest(target: str) -> str | None:
    files: dict[str, Path] = {}
    _collect(target, files)
    if not files:
        return None
    total = xxhash.xxh3_128()
    for name in sorted(files):
        total.update(f"{name}\n".encode())
        total.update(files[name].read_bytes())
    return total.hexdigest()


def _collect(name: str, files: dict[str, Path]) -> None:
    """Add the user's modules along the dotted `name`, and what they import, to `files`."""
    for module, path in _modules(name):
        if module in files or len(files) >= _MAX_FILES:
            continue
        files[module] = path
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # importing it will say so
            continue
        for imported in _imports(tree, module if path.name == "__init__.py" else module.rpartition(".")[0]):
            _collect(imported, files)


def _modules(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the modules with a file of the user's along a dotted name, such as `package.module.function`."""
    parts = name.split(".")
    search: list[str] | None = None
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        spec = PathFinder.find_spec(parts[depth - 1], search)  # its parents need no import so
        if spec is None or owner_of(spec) is not CodeOwner.USER:
            return
        if spec.origin and spec.origin.endswith(".py"):
            yield module, Path(spec.origin)
        if spec.submodule_search_locations is None:
            return
        search = list(spec.submodule_search_locations)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            except ImportError:
                continue
            yield from (f"{base}.{alias.name}" for alias in node.names)
