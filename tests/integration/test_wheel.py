"""Installed from a wheel, the framework needs no checkout: a folder of one's own has simulator and configurations."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

import framework
from tests.support.command import ROOT, TINY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a clean environment with the wheel in it; the dependencies are those of this one."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = directory.glob("*.whl")
    venv.create(directory / "venv", with_pip=False)
    (site_packages,) = (directory / "venv/lib").glob("python*/site-packages")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site_packages),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, text=True)
    # A plain path, not site.addsitedir: the editable install of the checkout is not followed.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return directory / "venv/bin/python"


def run(python, *arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([str(python), *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_package_comes_from_the_wheel(python):
    located = run(python, "-c", "import framework; print(framework.__file__)", cwd="/").stdout
    assert str(python.parents[1]) in located


def test_its_version_is_that_of_the_code_and_its_types_are_for_others(python):
    (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    (installed,) = site_packages.glob("framework-*.dist-info")
    assert installed.name == f"framework-{framework.__version__}.dist-info"
    assert (site_packages / "framework/py.typed").exists()
    script = "from framework.versions import versions; print(versions()['framework'])"
    assert run(python, "-c", script, cwd="/").stdout.strip() == framework.__version__


def test_nothing_generic_is_installed_beside_the_package(python):
    (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    installed = {path.name for path in site_packages.iterdir()}
    assert not installed & {"conf", "experiments", "tests", "scripts"}


def test_the_pages_beside_the_code_stay_in_the_repository(python):
    (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    pages = {
        path.relative_to(site_packages / "framework").parts[0] for path in site_packages.rglob("framework/**/*.md")
    }
    assert pages == {"_bundled"}  # those of the experiments


@pytest.mark.campaign
def test_the_default_experiment_runs_from_the_root_directory(python, tmp_path):
    run_dir = tmp_path / "run"
    command = ["-m", "framework.train", *TINY, "inference.report=true", f"hydra.run.dir={run_dir}"]
    result = run(python, *command, cwd="/")
    assert result.returncode == 0, result.stderr
    assert (run_dir / "report/report.html").exists()
    assert run(python, "-m", "framework.sample", str(run_dir), "predictive", cwd="/").returncode == 0


def test_the_launchers_are_there(python, tmp_path):
    command = ["-m", "framework.train", "-m", "hydra/launcher=slurm_local", "hydra.launcher.num_parallel=0"]
    result = run(python, *command, cwd=tmp_path)
    assert (result.returncode, "hydra.launcher.num_parallel=0: expected at least 1" in result.stderr) == (2, True)


def test_every_bundled_experiment_is_there(python):
    names = {path.stem for path in (Path(ROOT) / "conf/experiment").glob("*.yaml")}
    result = run(python, "-m", "framework.train", "--help", cwd="/")
    assert all(name in result.stdout for name in names)


SIMULATORS = """
import numpy as np


def decay(theta, rng):
    times = np.linspace(0, 10, 20)
    return rng.poisson(theta[0] * 0.5 ** (times / theta[1]))
"""
EXPERIMENT = """# @package _global_
name: decay
graph:
  theta: {evidence: [counts]}
  counts:
    parents: [theta]
    simulator: {_target_: lab.simulators.decay}
    observed: observed.npy
priors:
  theta: {_target_: framework.priors.LogUniform, low: [1, 0.5], high: [100, 20]}
"""
OWN = ["hydra.searchpath=[pkg://lab.conf]", "experiment=decay", *TINY]


@pytest.fixture(scope="module")
def finished(python, tmp_path_factory):
    """A folder with a package of one's own, simulators and configurations, after a training there."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "lab/conf/experiment").mkdir(parents=True)
    for name in ("lab/__init__.py", "lab/conf/__init__.py"):
        (folder / name).touch()
    (folder / "lab/simulators.py").write_text(SIMULATORS)
    (folder / "lab/conf/experiment/decay.yaml").write_text(EXPERIMENT)
    np.save(folder / "observed.npy", np.arange(20)[::-1])
    result = run(python, "-m", "framework.train", *OWN, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.campaign
def test_a_folder_with_a_package_of_ones_own_is_trained_in(finished):
    assert sorted(path.name for path in finished.iterdir()) == ["lab", "observed.npy", "outputs"]
    assert (finished / "outputs/decay/samples").is_dir()
    assert str(ROOT) not in (finished / "outputs/decay/config.yaml").read_text()


@pytest.mark.campaign
def test_the_run_of_ones_own_is_resumed_sampled_and_swept(python, finished):
    for arguments in (
        ["framework.train", *OWN, "loop.num_epochs=3", "+resume=true"],
        ["framework.sample", "outputs/decay", "predictive"],
        ["framework.train", "-m", *OWN, "seed=1,2", "hydra/launcher=slurm_local"],
    ):
        result = run(python, "-m", *arguments, cwd=finished)
        assert result.returncode == 0, result.stderr
    script = "from framework import load_run; print(load_run('outputs/decay').posterior('theta').sample(7).shape)"
    assert run(python, "-c", script, cwd=finished).stdout == "torch.Size([7, 2])\n"
    assert len(list(finished.glob("multirun/decay/*/checkpoints"))) == 2
