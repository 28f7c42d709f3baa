"""Large libraries are imported with the garbage collector off; a missing one is one line that says what to type."""

import gc
import re
import subprocess
import sys
import tomllib

import pytest

from framework import imports
from framework.imports import import_without_gc, missing_package
from tests.support.command import ROOT, TINY, environment


@pytest.fixture(autouse=True)
def unfrozen():
    yield
    gc.unfreeze()


def test_the_collector_sees_nothing_of_what_a_module_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "large_library.py").write_text(
        "import gc\nwas_enabled = gc.isenabled()\nobjects = [[] for _ in range(99)]"
    )
    import_without_gc("large_library")
    import large_library

    assert not large_library.was_enabled and gc.isenabled()
    assert gc.get_freeze_count() > 99 and not any(object is large_library.objects for object in gc.get_objects())


def test_a_module_that_is_loaded_freezes_nothing():
    import_without_gc("gc")
    assert gc.get_freeze_count() == 0


def test_the_collector_is_back_at_work_where_a_module_cannot_be_loaded():
    with pytest.raises(ModuleNotFoundError):
        import_without_gc("no_such_library")
    assert gc.isenabled()


def names_of(requirements):
    return {re.match(r"[\w-]+", text)[0].removesuffix("-core") for text in requirements}


def test_what_may_be_missing_is_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names_of(project["dependencies"]) == set(imports.DEPENDENCIES)
    extras = project["optional-dependencies"].keys() - {"dev", "bench"}
    assert extras == set(imports.EXTRAS)
    assert all(names_of(project["optional-dependencies"][extra]) == {extra} for extra in extras)


def test_of_a_missing_package_of_somebody_elses_nothing_is_said():
    assert missing_package(ModuleNotFoundError("No module named 'lab'", name="lab")) is None
    assert missing_package(ImportError("cannot import name 'Figure'", name="matplotlib")) is None


HIDING = """
import runpy, sys
sys.modules[sys.argv[1]] = None  # as if it were not installed
sys.argv[:] = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("package", "arguments", "message"),
    [
        ("rich", [], "the package rich is missing; pip install rich"),
        (
            "tensorboard",
            ["tracking=tensorboard"],
            "tracking.tensorboard: the package tensorboard is missing; pip install 'framework[tensorboard]'",
        ),
        (
            "optuna",
            ["-m", "hydra/sweeper=study", "seed=1,2"],
            "hydra/sweeper=study: the package optuna is missing; pip install 'framework[optuna]'",
        ),
        (
            "submitit",
            ["-m", "hydra/launcher=slurm_local", "seed=1,2"],
            "the package submitit is missing; pip install submitit",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value and " " not in value else "",
)
def test_a_missing_package_is_one_line_with_the_command(tmp_path, package, arguments, message):
    command = [sys.executable, "-c", HIDING, package, "framework.train", *TINY, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"✗ {message}\n")
