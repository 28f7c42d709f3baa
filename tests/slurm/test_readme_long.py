"""What the pages tell cluster users to type, a first job and then a sweep, followed word for word on a live cluster."""

import csv
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from framework.rundir.run_status import read_run
from tests.slurm.cluster import ROOT, wait_for
from tests.support.pages import section

pytestmark = pytest.mark.campaign

JOB, SWEEP = ("README.md", "First job on a cluster"), ("framework/launcher/README.md", "A sweep on a cluster")
TEXT = section(*JOB) + section(*SWEEP)
COMMANDS = "\n".join(line[4:] for line in TEXT.splitlines() if line.startswith("    "))
CLONE = "git clone <this repository> framework\n"
NOT_CLONED = (".git", ".venv", ".*_cache", ".cache", "__pycache__", "outputs", "multirun", "dist")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of a person who has cloned the repository, and set up its environment before."""
    home = tmp_path_factory.mktemp("home")
    clone = home / "framework"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*NOT_CLONED))
    venv.create(clone / ".venv")
    # The packages of this environment, which were downloaded once, and what an editable install of the clone adds.
    paths = [clone, clone / "framework/launcher/plugin", sysconfig.get_path("purelib")]
    packages = sysconfig.get_path("purelib", vars={"base": str(clone / ".venv")})
    Path(packages, "framework.pth").write_text("".join(f"{path}\n" for path in paths))
    stamp = "cat pyproject.toml scripts/constraints.txt | cksum >.venv/.stamp"
    subprocess.run(stamp, shell=True, cwd=clone, check=True)
    return home


@pytest.fixture(scope="module")
def typed(cluster, home):
    """What came of all commands of both pages, in their order."""
    environment = {name: value for name, value in cluster.environment.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.environ["PATH"]
    command = ["bash", "-e", "-c", COMMANDS.replace(CLONE, "")]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=400)


def test_every_command_does_what_the_pages_say(typed):
    assert CLONE in COMMANDS and "sbatch" in COMMANDS and " -m name=widths " in COMMANDS
    assert typed.returncode == 0, typed.stdout + typed.stderr


@pytest.mark.usefixtures("typed")
def test_the_run_that_is_tried_and_the_job_are_finished(cluster, home):
    wait_for(lambda: not cluster.run("squeue", "--noheader", "--name=two_moons"), "the job of the page")
    for name in ("try", "first"):
        assert read_run(home / "framework/outputs" / name).state == "finished"
    (log,) = (home / "framework").glob("two_moons-*.out")
    assert "report:  outputs/first/report/report.html" in log.read_text()


def test_the_sweep_is_finished_in_three_jobs_and_summed_up(home, typed):
    sweep = home / "framework/multirun/widths"
    rows = csv.DictReader((sweep / "sweep.csv").read_text().splitlines())
    states = {row["network.hidden_dim"]: row["state"] for row in rows}
    assert states == dict.fromkeys(("32", "64", "128"), "finished")
    assert (sweep / "sweep.html").exists()
    assert "Submitted 2 jobs" in typed.stdout and "Submitted 1 jobs" in typed.stdout
