"""Private names of other libraries, and changes of them, stand in `framework/compat` only; versions are checked."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import framework.compat

ROOT = Path(framework.compat.__file__).parents[1]
PROJECT = ROOT.parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent.name != "compat")
DOCUMENTED = {  # private by their names alone
    "_thread": "a documented module of Python",
    "os._exit": "a documented function of Python",
    "_call": "torch.distributions.Transform: 'Derived classes should implement one or both of _call() or _inverse()'",
    "_inverse": "likewise",
    "_abc_impl": "of every abstract class",
}
PRIVATE_PATH = re.compile(r"(?!framework\.)[a-z]\w*(\.\w+)*\._\w+")
REMEDY = "move what uses it to framework/compat, as a plain function with a test that says what to do when it changes"


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def imported(tree):
    """Return what each name that is imported from another library stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                if root != "framework":
                    names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("framework"):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_names(tree):
    """Return the private attributes that the file itself gives to its classes and objects."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    statements = [statement for node in classes for statement in node.body]
    names = {statement.name for statement in statements if isinstance(statement, ast.FunctionDef)}
    names |= {ast.unparse(statement.target) for statement in statements if isinstance(statement, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if ast.unparse(node.value) in ("self", "cls") else set()
    return names


def root_of(node):
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else None


def private_uses(text):
    """Yield the line and the text of each use of a private name of another library, and of each change of one."""
    tree = ast.parse(text)
    others, own = imported(tree), own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            parts = [part for alias in node.names for part in alias.name.split(".")]
            parts += (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
            if any(map(is_private, parts)) and ast.unparse(node).split()[-1] not in DOCUMENTED:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Attribute):
            whole, holder = ast.unparse(node), ast.unparse(node.value)
            is_known = holder in ("self", "cls") or (node.attr in own and root_of(node) not in others)
            if is_private(node.attr) and not is_known and whole not in DOCUMENTED:
                yield node.lineno, whole
            if isinstance(node.ctx, ast.Store | ast.Del) and root_of(node) in others:
                yield node.lineno, f"{whole} = ..."
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PRIVATE_PATH.fullmatch(node.value):
            yield node.lineno, repr(node.value)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_or_changes_what_another_library_keeps_to_itself(path):
    found = sorted(f"{path.relative_to(PROJECT)}:{line}: {what}" for line, what in private_uses(path.read_text()))
    allowed = {"logging.raiseExceptions = ..."}  # documented: to be set by programs
    found = [entry for entry in found if entry.partition(": ")[2] not in allowed]
    assert not found, f"{REMEDY}: {found}"


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch._foreach_norm([])",
        "from hydra._internal.callbacks import Callbacks",
        "import torch._dynamo",
        "import torch.utils._pytree as tree",
        "from submitit.local.local import LocalJob\nLocalJob('.', '1')._process",
        "def stop(job):\n    job._process.kill()",
        "def _requeue(environment):\n    environment._requeue(3)",
        "class C(Base):\n    def f(self):\n        super()._other()",
        "import subprocess\nsubprocess.Popen.__init__ = None",
        "from hydra.core.hydra_config import HydraConfig\nHydraConfig.instance().cfg = None",
        "load('torch._dynamo')",
    ],
)
def test_each_way_of_using_a_private_name_is_found(text):
    assert list(private_uses(text))


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos._exit(1)",
        "class C:\n    def __init__(self):\n        self._x = 1\n    def same(self, other):\n        return other._x",
        "import torch\ntorch.nn.Module.__init__",
        "from framework.runtime import guard\nguard.limit = 3",
    ],
)
def test_own_names_and_documented_ones_are_not(text):
    assert not list(private_uses(text))


def classes():
    for info in pkgutil.walk_packages(framework.__path__, "framework."):
        if not info.name.startswith(("framework.compat", "framework.launcher.plugin")):
            module = importlib.import_module(info.name)
            yield from (c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == info.name)


def test_no_class_overrides_a_private_method_of_another_librarys():
    found = [
        f"{kind.__module__}.{kind.__qualname__}.{name} overrides that of {base.__module__}.{base.__qualname__}"
        for kind in classes()
        for base in kind.__mro__
        if not base.__module__.startswith("framework") and base.__module__ not in ("typing", "enum", "builtins")
        for name in vars(kind)
        if is_private(name) and not name.startswith("__") and name in vars(base) and name not in DOCUMENTED
    ]
    assert not found, f"{REMEDY}: {found}"


# `environment` sets documented variables, in one place only because that must be early.
COMPAT = sorted({info.name for info in pkgutil.iter_modules(framework.compat.__path__)} - {"environment"})


@pytest.mark.parametrize("name", [name for name in COMPAT if name != "processes"])  # which stands for Python
def test_each_module_has_been_checked_on_the_version_that_is_set_up(name):
    """If this fails: run tests/compat with the new version, fix what fails, and add the version to `CHECKED_ON`."""
    checked = importlib.import_module(f"framework.compat.{name}").CHECKED_ON
    constraints = set((PROJECT / "scripts/constraints.txt").read_text().split())
    assert constraints & set(checked), f"{checked}: scripts/constraints.txt has another"


@pytest.mark.parametrize("name", COMPAT)
def test_each_module_has_tests_that_say_what_to_do(name):
    tests = ast.parse((Path(__file__).parent / f"test_{name}.py").read_text()).body
    canaries = [
        node
        for node in tests
        if isinstance(node, ast.FunctionDef) and "If this fails" in (ast.get_docstring(node) or "")
    ]
    assert canaries
