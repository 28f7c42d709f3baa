"""Digests of the user's code behind every `_target_`, computed without running it."""

import ast
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import xxhash

from framework.config.code_owner import CodeOwner, owner_of

_MAX_FILES = 500  # for each target: further imports in a large library are not followed
_GROUPS = ("graph", "priors", "network", "embedding", "optimizer")  # those that affect training


def code_digests(container: Mapping[str, Any]) -> dict[str, str]:
    """Return {target: digest} for the targets in the user's code, excluding the framework and installed packages.

    The digest covers the target's module and all user modules that it imports, found
    by parsing import statements.
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
    """Add the user's modules along the dotted `name`, and their imports, to `files`."""
    for module, path in _modules(name):
        if module in files or len(files) >= _MAX_FILES:
            continue
        files[module] = path
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # importing it will report this
            continue
        for imported in _imports(tree, module if path.name == "__init__.py" else module.rpartition(".")[0]):
            _collect(imported, files)


def _modules(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the user's modules along a dotted name, such as `package.module.function`, and their files."""
    parts = name.split(".")
    search: list[str] | None = None
    for depth in range(1, len(parts) + 1):
        module = ".".join(parts[:depth])
        spec = PathFinder.find_spec(parts[depth - 1], search)  # finds it without importing its parents
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
