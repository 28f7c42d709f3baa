"""Imports point down only, the parts for any torch loop know nothing of the rest, and files have names of their own."""

import ast
import collections
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "framework"
LAYERS = [
    {"train", "sample", "diff", "status"},
    {"attempt"},
    {"run"},
    {"run_setup", "cli"},
    {"launcher"},
    {"inference"},
    {"training", "resume"},
    {"simulation"},
    {"estimators", "graph", "tracking"},
    {"rundir"},
    {"checkpoint", "runtime"},
    {"networks", "priors"},
    {"config"},
    {
        "compat",
        "errors",
        "files",
        "records",
        "versions",
        "new_directories",
        "rng",
        "paths",
        "device",
        "imports",
        "environment_variables",
        "streams",
        "__init__",
    },
]
SAME_JOB = {  # names that several files may have: why a reader who knows one of them knows the others
    "store": "keeps what a run has made, in files that are committed one by one, in checkpoint/ and simulation/",
    "worker": "what a process beside the main one does, in simulation/ and training/",
}
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
TESTS = Path(__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


def part_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("framework."))


@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(p) != "__init__"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_module_imports_only_from_its_own_layer_and_those_below(path):
    above = {part for part in imported_parts(path) if LEVEL[part] < LEVEL[part_of(path)]}
    beside = {part for part in imported_parts(path) if LEVEL[part] == LEVEL[part_of(path)]} - {part_of(path)}
    assert not above
    assert not beside - {"compat", "errors", "files", "priors"}


@pytest.mark.parametrize("part", ["checkpoint", "runtime"])
def test_runtime_and_checkpoint_import_nothing_of_the_rest(part):
    for path in (ROOT / part).rglob("*.py"):
        text = path.read_text().replace("framework.config.duration", "")  # how durations are written
        allowed = {part, "compat", "environment_variables", "errors", "files", "records"}
        assert set(re.findall(r"(?:from|import) framework\.(\w+)", text)) <= allowed, path


def test_nothing_imports_the_experiments():
    assert not [path for path in MODULES if "experiments." in path.read_text().replace("experiments.*", "")]


def imported_files(path):
    """Return the files of the framework that one imports, anywhere in it, by the names that it takes from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("framework"):
            base = ROOT.parent.joinpath(*node.module.split("."))
            for target in [base, *(base / alias.name for alias in node.names)]:
                yield from (file for file in (target.with_suffix(".py"), target / "__init__.py") if file.is_file())


def test_no_files_import_each_other_in_a_circle():
    imports = {path: {file for file in imported_files(path) if file.name != "__init__.py"} for path in MODULES}
    while imports:  # what imports nothing that is left cannot be part of a circle
        free = {path for path, needed in imports.items() if not needed & imports.keys()}
        assert free, sorted(str(path.relative_to(ROOT)) for path in imports)
        imports = {path: needed for path, needed in imports.items() if path not in free}


def test_a_file_name_occurs_once_or_always_for_the_same_job():
    files = collections.defaultdict(list)
    for path in MODULES:
        files[path.stem].append(str(path.relative_to(ROOT)))
    several = {name: paths for name, paths in files.items() if len(paths) > 1 and name != "__init__"}
    wrong = [paths for name, paths in several.items() if name not in SAME_JOB]
    assert not wrong, f"rename all but one, or give a reason in SAME_JOB: {wrong}"
    assert not SAME_JOB.keys() - several.keys()


def test_tests_lie_in_the_folders_of_what_they_test():
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")} - {Path()}
    packages = {folder for folder in folders if folder.parts[0] not in {"faults", "integration", "slurm"}}
    assert not [str(folder) for folder in packages if not (ROOT / folder / "__init__.py").is_file()]


def test_no_file_is_longer_than_a_reader_keeps_in_mind():
    assert not [path for path in MODULES if len(path.read_text().splitlines()) > 250]
