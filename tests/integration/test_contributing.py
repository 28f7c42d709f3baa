"""The recipes of CONTRIBUTING.md, carried out word for word on a copy of the project."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.command import ROOT, TINY, environment
from tests.support.pages import commands, section, sections

PAGE = ".github/CONTRIBUTING.md"
RECIPES = [title for title in sections(PAGE) if title.startswith("Recipe: ")]
COPIED = [
    ".github",
    ".pre-commit-config.yaml",
    "README.md",
    "conf",
    "experiments",
    "framework",
    "pyproject.toml",
    "scripts",
    "tests",
]
NEW_FILE = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EDIT = re.compile(r"^In `([\w/.]+)`:\n\n```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL = [override for override in TINY if not override.startswith("network.")]


def apply(recipe, project):
    """Write the recipe's new files, and change the others where its diffs say."""
    for name, text in NEW_FILE.findall(section(PAGE, recipe)):
        assert not (project / name).exists(), name
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    for name, diff in EDIT.findall(section(PAGE, recipe)):
        for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
            edit(project / name, hunk.splitlines(keepends=True))


def edit(path, lines):
    """Replace what a hunk takes for what it gives; the last line may be the beginning of a longer one."""
    old, new = ("".join(line[1:] for line in lines if line[0] in kept).rstrip("\n") for kept in (" -", " +"))
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with all recipes applied."""
    project = tmp_path_factory.mktemp("contributing")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project / name)
    for recipe in RECIPES:
        apply(recipe, project)
    return project


def run(project, *arguments):
    variables = environment() | {"PYTHONPATH": str(project)}
    return subprocess.run([sys.executable, *arguments], cwd=project, env=variables, capture_output=True, text=True)


def metrics(project, name):
    return [json.loads(line) for line in (project / f"outputs/{name}/metrics.jsonl").read_text().splitlines()]


def check_tracker(project):
    with (project / "outputs/table/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [record["epoch"] for record in metrics(project, "table")] == [1, 2]


def check_key(project):
    epochs = [record["epoch"] for record in metrics(project, "patient")]
    assert 12 <= len(epochs) <= 14


CHECKS = {"Recipe: a tracker": check_tracker, "Recipe: a config key": check_key}


def test_there_is_a_recipe_for_everything_that_people_add():
    kinds = ["an estimator", "a tracker", "a scheduler", "a prior", "a config key", "an experiment"]
    assert [f"Recipe: {kind}" for kind in kinds] == RECIPES


@pytest.mark.campaign
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipe_does_what_it_says(recipe, project):
    typed = commands(section(PAGE, recipe))
    assert typed
    for program, *arguments in typed:
        assert program == "python", f"no test runs {program}"
        keys = {argument.partition("=")[0] for argument in arguments}
        if "framework.train" in arguments:
            arguments += [override for override in SMALL if override.partition("=")[0] not in keys]
        result = run(project, *arguments)
        refused = "framework.diff" in arguments
        assert result.returncode == (3 if refused else 0), f"{arguments}\n{result.stdout}{result.stderr}"
        assert not refused or "resume_allow=[loop.min_epochs]" in result.stdout + result.stderr
    CHECKS.get(recipe, lambda project: None)(project)


@pytest.mark.campaign
@pytest.mark.parametrize("tool", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join)
def test_what_the_recipes_add_passes_the_check(tool, project):
    result = run(project, "-m", *tool)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.campaign
def test_what_the_recipes_add_keeps_to_the_layers_and_is_on_the_maps(project):
    result = run(
        project, "-m", "pytest", "-q", "tests/test_layers.py", "tests/integration/test_pages.py", "-k", "not command"
    )
    assert result.returncode == 0, result.stdout + result.stderr
