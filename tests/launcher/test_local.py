"""Sweeps as processes on this machine: the path of the cluster, through submitit, with a task that takes no time."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from framework.errors import SweepError
from framework.launcher.controller import Controller
from framework.launcher.launcher_job import Job
from framework.records import read_record
from tests.support.command import environment
from tests.support.toy_sweep import launcher, leave_attempt, seeds, slow_to_begin, task, until_stopped, wait_for  # noqa: F401

LIMIT = ["hydra.launcher.time=5s", "hydra.launcher.signal_lead=3s"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


def launch(*overrides, jobs, function=task):
    with launcher("slurm_local", *overrides, function=function) as started:
        return started.launch(jobs, 0)


def attempts(seed):
    paths = sorted(Path(f"multirun/two_moons/seed={seed}/attempts").glob("*.json"))
    return [json.loads(path.read_text())["stop_reason"] for path in paths]


def test_a_job_writes_through_no_link_in_its_run_directory(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["job"])
    (tmp_path / "train.log").symlink_to(tmp_path / "elsewhere")
    runtime = {"output_dir": str(tmp_path), "config_sources": []}
    hydra = {"runtime": runtime, "overrides": {"task": []}, "job": {"name": "train"}, "output_subdir": None}
    with pytest.raises(SystemExit) as end:
        Job(OmegaConf.create({"hydra": hydra}), "tests.support.toy_sweep:task")._run()
    assert end.value.code == 2 and "train.log: is a link" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_a_job_that_fails_is_named_and_the_others_continue():
    returned = launch(jobs=seeds(13, 1))
    assert returned[1].return_value == -1.0
    message = r"1 of 2 jobs did not finish\n  seed=13: failed: thirteen is no number of simulations$"
    with pytest.raises(SweepError, match=message) as raised:
        _ = returned[0].return_value
    assert raised.value.exit_code == 1
    rows = list(csv.DictReader(Path("multirun/two_moons/sweep.csv").read_text().splitlines()))
    assert [(row["seed"], row["state"], float(row["best_loss"])) for row in rows] == [
        ("1", "finished", -1.0),
        ("13", "failed", -1.0),
    ]


def test_no_more_jobs_than_allowed_run_at_once():
    launch("hydra.launcher.num_parallel=1", jobs=seeds(1, 2))
    folder = Path("multirun/two_moons/jobs")
    began, results = (
        sorted(p.stat().st_mtime for p in folder.glob(name)) for name in ("*_submitted.pkl", "*_result.pkl")
    )
    assert results[0] < began[1]


def test_a_sweep_of_finished_runs_starts_nothing():
    leave_attempt(Path("multirun/two_moons/seed=1"), "finished", ["seed=1"])
    (returned,) = launch(jobs=seeds(1))
    assert returned.return_value == -1.0
    assert not list(Path("multirun/two_moons/jobs").iterdir())


def test_interrupted_the_launcher_has_its_jobs_save_and_ends_resumably(tmp_path):
    assert interrupt("until_stopped", tmp_path / "multirun/two_moons/seed=1/guarded") == 130
    assert attempts(1) == ["terminated"]


def test_a_job_that_is_interrupted_before_it_listens_ends_resumably(tmp_path):
    run_dir = tmp_path / "multirun/two_moons/seed=1"
    assert interrupt("slow_to_begin", run_dir / "early") == 130
    assert read_record(run_dir / "exit.json") == {"code": 99, "is_failure": False, "num_attempts": 0}


def interrupt(function, path):
    """Press Ctrl+C at a launcher once a path is there; return its exit code."""
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also where the tests do not
    script = f"{hears}; from tests.launcher.test_local import *; launch(jobs=seeds(1), function={function})"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    wait_for(path.exists)
    process.send_signal(signal.SIGINT)
    assert "1 running jobs have saved and stopped" in process.communicate(timeout=30)[1]
    return process.returncode


def test_a_job_that_is_told_to_stop_between_two_of_its_processes_starts_no_other(tmp_path, monkeypatch):
    settings = {"NTASKS": "1", "COMMAND": "touch started", "TIMEOUT_S": "9", "SIGNAL_DELAY_S": "1", "WITH_SHELL": ""}
    for name, value in settings.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    monkeypatch.setenv("SUBMITIT_STDERR_TO_STDOUT", "1")
    before = signal.getsignal(signal.SIGTERM)
    try:
        controller = Controller(tmp_path)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(SystemExit) as end:
        controller.run()
    assert (end.value.code, (tmp_path / "started").exists()) == (99, False)


@pytest.mark.campaign
def test_a_job_is_requeued_at_its_limit_as_often_as_it_gets_on():
    (returned,) = launch(*LIMIT, jobs=seeds(1), function=until_stopped)
    assert returned.return_value == -1.0
    assert attempts(1) == ["requeue", "requeue", "finished"]
    (pickled,) = Path("multirun/two_moons/jobs").glob("*_submitted.pkl")
    assert pickled.stat().st_mtime < Path("multirun/two_moons/seed=1/attempts/001.json").stat().st_mtime


@pytest.mark.campaign
def test_two_attempts_that_save_nothing_new_are_the_last():
    leave_attempt(Path("multirun/two_moons/seed=13"), "terminated", ["seed=13"], num_committed=0)
    (returned,) = launch(*LIMIT, jobs=seeds(13), function=until_stopped)
    with pytest.raises(SweepError, match=r"seed=13: failed: .*2 attempts in a row ended without a newer checkpoint"):
        _ = returned.return_value
    assert attempts(13) == ["terminated", "requeue", "requeue"]
