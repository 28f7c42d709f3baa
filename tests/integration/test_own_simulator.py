"""A user's own simulator: the README's section as written, and every other way to start a command there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from framework import load_run
from framework.diff import compatible_overrides
from tests.support.command import ROOT, TINY, environment, run

BIN = Path(sys.executable).parent
SECTION = (ROOT / "README.md").read_text().partition("## Your own simulator\n")[2].partition("\n## ")[0]
FILE = re.compile(r"`([\w/]+\.\w+)`[^`]*?\n\n```\w+\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^    (python .*)$", re.MULTILINE)
OVERRIDES = ["--config-dir=conf", "experiment=decay", *TINY]
PICKLE = "+hydra.callbacks.save._target_=hydra.experimental.callbacks.PickleJobInfoCallback"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An empty directory after all that the section has one do, the training in small."""
    directory = tmp_path_factory.mktemp("own")
    for name, text in FILE.findall(SECTION):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    *commands, training = COMMAND.findall(SECTION)
    variables = {**environment(), "PATH": f"{BIN}:/usr/bin:/bin"}
    for command in commands:
        subprocess.run(["bash", "-c", command], cwd=directory, env=variables, check=True)
    _, _, *arguments = shlex.split(training)
    result = run(*arguments, *TINY, "simulation.workers=1", PICKLE, cwd=directory)
    assert result.returncode == 0, result.stderr
    return directory


@pytest.fixture
def project(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def test_the_section_of_the_readme_runs_as_it_is_written(finished):
    assert sorted(p.name for p in finished.iterdir() if p.name != "__pycache__") == [
        "conf",
        "observed.npy",
        "outputs",
        "simulator.py",
    ]
    assert load_run(finished / "outputs/decay").samples()["theta"]["samples"].shape == (1, 50, 2)


# --- commands that are started in another way ---


WORKERS = [1, pytest.param(2, marks=pytest.mark.campaign)]  # workers start slowly


@pytest.mark.parametrize("workers", WORKERS)
def test_the_console_scripts_find_what_lies_beside_the_user(project, workers):
    (project / "statistics.py").write_text("raise ImportError('of the user')")  # which torch would import
    for name, arguments in {
        "train": [*OVERRIDES, "name=script", f"simulation.workers={workers}"],
        "sample": ["outputs/script", "predictive", "inference.num_samples=2"],
        "diff": ["outputs/script"],
        "status": [],
    }.items():
        result = run(f"{BIN}/framework-{name}", *arguments, cwd=project)
        assert result.returncode == 0, result.stdout + result.stderr


SHOW = """
import json, os, sys
from framework.paths import work_in
work_in(os.environ["TYPED_IN"])
print(json.dumps([os.getcwd(), sys.path, os.__file__]))
"""


@pytest.mark.parametrize("options", [[], ["-P"]], ids=str)
def test_python_looks_in_its_own_library_then_beside_the_user_then_elsewhere(tmp_path, options):
    variables = {**environment(), "TYPED_IN": str(tmp_path)}
    out = subprocess.run([sys.executable, *options, "-c", SHOW], env=variables, capture_output=True, text=True)
    cwd, path, of_the_library = json.loads(out.stdout)
    assert cwd == str(tmp_path)
    if options:  # python -m would leave it out, too
        assert str(tmp_path) not in path
    else:
        assert path.index(str(Path(of_the_library).parent)) < path.index(str(tmp_path)) < path.index(str(ROOT))


@pytest.mark.parametrize(
    "more", [["resume_from=outputs/decay", "loop.num_epochs=3"], ["simulation.from_file=mine.npz"]], ids=str
)
def test_relative_paths_are_those_of_where_the_command_was_typed_whatever_chdir_does(project, more):
    np.savez(project / "mine.npz", **load_run(project / "outputs/decay").simulations("theta", "counts"))
    result = run("framework.train", *OVERRIDES, "name=moved", *more, "hydra.job.chdir=true", cwd=project)
    assert result.returncode == 0, result.stderr
    assert "Run outputs/moved on cpu" in result.stdout
    assert sorted(path.name for path in project.rglob("outputs/*")) == ["decay", "moved"]


# --- Hydra's callbacks ---


def test_a_pickled_job_is_run_again_and_resumes_the_existing_run(project):
    (pickle,) = project.glob("outputs/decay/.hydra/config.pickle")
    assert (pickle.parent / "job_return.pickle").exists()
    result = run("framework.train", "--experimental-rerun", pickle.relative_to(project), cwd=project)
    assert result.returncode == 0 and "has already finished" in result.stdout, result.stderr
    (project / "outputs/decay").rename(project / "outputs/earlier")
    result = run("framework.train", "--experimental-rerun", "outputs/earlier/.hydra/config.pickle", cwd=project)
    assert result.returncode == 0, result.stderr


# --- what a run could resume with ---


@pytest.mark.parametrize(
    ("typed", "changes"),
    [
        ([], {}),
        (["loop.num_epochs=9"], {"loop.num_epochs": ""}),
        (["network.hidden_dim=9", "seed=1"], {"network.hidden_dim": "refused", "seed": "refused"}),
        (["+graph.theta.loop.batch_size=9"], {"graph.theta.loop.batch_size": "refused"}),
        (["priors.theta.low=[1,1]", "+resume_allow=[seed]"], {"priors.theta.low.1": "refused"}),
    ],
    ids=str,
)
def test_what_is_not_typed_is_the_runs_own(finished, tmp_path, typed, changes):
    run_dir = os.path.relpath(finished / "outputs/decay", tmp_path)  # typed anywhere
    result = run("framework.diff", run_dir, *typed, "--format", "json", cwd=tmp_path)
    assert result.returncode == (3 if "refused" in changes.values() else 0), result.stderr
    assert {change["key"]: change["verdict"] for change in json.loads(result.stdout)["changes"]} == changes


def test_what_one_attempt_added_or_allowed_may_be_typed_again(project):
    added = ["+graph.theta.loop.batch_size=7", "loop.batch_size=100", "resume_allow=[loop,graph]", "+resume=true"]
    assert run("framework.train", *OVERRIDES, *added, cwd=project).returncode == 0
    typed = ["+graph.theta.loop.batch_size=9", "loop.batch_size=50", "--format", "json"]
    result = run("framework.diff", "outputs/decay", *typed, cwd=project)
    changes = {change["key"]: (change["old"], change["verdict"]) for change in json.loads(result.stdout)["changes"]}
    assert changes == {"graph.theta.loop.batch_size": (7, "refused"), "loop.batch_size": (100, "refused")}


@pytest.mark.parametrize(
    ("typed", "recorded", "kept"),
    [
        ([], ["seed=3", "+a.b=1", "~c"], ["seed=3", "+a.b=1", "~c"]),
        ([], ["+resume=true", "overwrite=true", "resume_from=a", "resume_allow=[seed]"], []),
        (["seed=4", "a.b=2", "~d"], ["seed=3", "+a.b=1", "+d=5"], ["seed=3", "+a.b=1", "+d=5"]),
        (["+a.b=2"], ["+a.b=1", "+a.c=1"], ["+a.c=1"]),  # Hydra appends a key once
        (["++a.b=2"], ["+a.b=1"], ["+a.b=1"]),
        (["network=maf"], ["network=nsf", "~network"], ["network=nsf"]),  # or sets what is deleted
    ],
    ids=str,
)
def test_the_overrides_of_the_last_command_compose_with_those_typed(typed, recorded, kept):
    assert compatible_overrides(typed, recorded) == kept
