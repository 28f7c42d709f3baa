"""Installed from a wheel, the framework needs no checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

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


def test_nothing_generic_is_installed_beside_the_package(python):
    (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    installed = {path.name for path in site_packages.iterdir()}
    assert not installed & {"conf", "experiments", "tests", "scripts"}


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
