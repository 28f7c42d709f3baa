"""The code itself: lint, format and types, as `scripts/check` runs them, and names that are written out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORK = sorted((ROOT / "framework").rglob("*.py"))


@pytest.mark.parametrize("tool", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join)
def test_the_code_passes(tool):
    result = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_scripts_are_valid_bash():
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci/run"]:
        if path.is_file() and path.read_text().startswith(("#!/usr/bin/env bash", "# Sourced")):
            assert subprocess.run(["bash", "-n", path]).returncode == 0


def squeezed(path):
    """Return the lines where names were squeezed: `a, b, c = x, y, z`, and `call(*parts)` after `parts = (…)`."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            yield from (node.lineno for t in node.targets if isinstance(t, ast.Tuple) and len(t.elts) > 2)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        nodes = list(ast.walk(function))
        assigned = [n for n in nodes if isinstance(n, ast.Assign) and isinstance(n.value, ast.Tuple)]
        names = {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            starred = [a.value for a in call.args if isinstance(a, ast.Starred) and isinstance(a.value, ast.Name)]
            yield from (name.lineno for name in starred if name.id in names)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a, b = 1, 2\na, b, c = f()", []),
        ("a, b, c = 1, 2, 3", [1]),
        ("def f(a):\n    parts = (a, 1)\n    return g(0, *parts)", [3]),
        ("def f(parts):\n    return g(*parts, *h(parts))", []),
    ],
)
def test_squeezed_names_are_found(tmp_path, text, lines):
    (tmp_path / "example.py").write_text(text)
    assert list(squeezed(tmp_path / "example.py")) == lines


def test_names_are_written_out():
    found = [f"{path.relative_to(ROOT)}:{line}" for path in FRAMEWORK for line in sorted(set(squeezed(path)))]
    assert not found, "one assignment a line, and arguments where they are passed:\n" + "\n".join(found)
