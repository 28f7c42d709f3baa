"""The state of runs, read from the files in their directories."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from framework.records import read_record, write_record
from framework.rundir.attempts import Outcome
from framework.rundir.job_records import JobRecord, record_exit, write_job
from framework.rundir.run_status import read_run, read_runs
from framework.runtime.lease import EXPIRY_SECONDS, Lease, LeaseOwner
from tests.support.toy_run import empty_run, save_checkpoint, start_attempt

FACTS = {"overrides": [], "job_id": "812_3", "num_epochs": {"z": 300}}


@pytest.fixture
def directory(tmp_path):
    return empty_run(tmp_path / "outputs/moons")


def status(directory):
    return read_run(directory.path)


def set_time(path, seconds_ago):
    os.utime(path, (time.time() - seconds_ago,) * 2)


def commit_checkpoint(directory, seconds_ago=0.0):
    set_time(save_checkpoint(directory, {}) / "manifest.json", seconds_ago)


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - seconds))


def rewrite(path, **entries):
    write_record(path, read_record(path) | entries)


def log(directory, *losses):
    best = [min(losses[:i]) for i in range(1, len(losses) + 1)]
    lines = [json.dumps({"node": "z", "epoch": i, "step": i, "best_loss": loss}) for i, loss in enumerate(best, 1)]
    (directory.path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_a_run_without_an_attempt_waits(directory):
    assert status(directory).state == "waiting"


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("starting", "simulating"),
        ("simulating", "simulating"),
        ("training", "training"),
        ("sampling and reporting", "sampling"),
    ],
)
def test_a_run_that_is_alive_shows_its_phase(directory, phase, state):
    with Lease(directory.lease_dir):
        start_attempt(directory, **FACTS).begin(phase)
        assert status(directory).state == state


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("finished", "finished"),
        ("crashed", "failed"),
        ("terminated", "stopped"),
        ("interrupted", "stopped"),
        ("requeue", "stopped"),
        ("out_of_time", "stopped"),
    ],
)
def test_a_run_that_has_ended_shows_how(directory, reason, state):
    start_attempt(directory, **FACTS).end(Outcome(reason))
    assert status(directory).state == state


def test_a_run_whose_owner_died_without_recording_it_is_lost(directory):
    with Lease(directory.lease_dir):
        start_attempt(directory, **FACTS).begin("training")
    assert status(directory).state == "lost"


def test_a_run_on_another_host_is_lost_when_its_heartbeat_has_expired(directory):
    attempt = start_attempt(directory, **FACTS)
    attempt.begin("training")
    directory.lease_dir.mkdir()
    owner = directory.lease_dir / "000001.json"
    owner.write_text(json.dumps(asdict(LeaseOwner(machine="far"))))
    assert status(directory).state == "training"
    set_time(owner, EXPIRY_SECONDS + 1)
    assert status(directory).state == "lost"


def test_node_epoch_best_loss_and_job_are_shown(directory):
    start_attempt(directory, **FACTS)
    log(directory, -1.0, -3.0, -2.0, 1.0)
    run = status(directory)
    assert (run.node, run.epoch, run.num_epochs, run.best_loss, run.job_id) == ("z", 4, 300, -3.0, "812_3")


def test_the_age_of_the_newest_checkpoint_is_shown(directory):
    assert status(directory).checkpoint_age_seconds is None
    commit_checkpoint(directory, seconds_ago=100)
    assert 99 < status(directory).checkpoint_age_seconds < 130


def test_time_trained_is_that_of_the_training_phases(directory):
    attempt = start_attempt(directory, **FACTS)
    phases = {"simulating": ago(900), "training": ago(700), "sampling and reporting": ago(300)}
    rewrite(attempt.path, start=ago(1000), phases=phases, end=ago(100), stop_reason="finished")
    second = start_attempt(directory, **FACTS)
    rewrite(second.path, start=ago(90), phases={"training": ago(80)}, end=ago(30), stop_reason="terminated")
    assert status(directory).trained_seconds == pytest.approx(400 + 50, abs=2)


def test_time_lost_is_the_time_since_the_last_checkpoint_of_an_attempt_that_died(directory):
    attempt = start_attempt(directory, **FACTS)
    rewrite(attempt.path, start=ago(1000), phases={"training": ago(900)})
    commit_checkpoint(directory, seconds_ago=500)
    log(directory, 1.0)
    set_time(directory.path / "metrics.jsonl", 200)
    assert status(directory).lost_seconds == pytest.approx(300, abs=2)
    start_attempt(directory, **FACTS)  # which closes the one before with the last sign of its life
    assert json.loads(attempt.path.read_text())["stop_reason"] == "lost"
    assert status(directory).lost_seconds == pytest.approx(300, abs=2)
    assert status(directory).attempts == 2


def test_a_stop_that_has_saved_loses_next_to_nothing(directory):
    attempt = start_attempt(directory, **FACTS)
    rewrite(attempt.path, start=ago(1000))
    attempt.record.start = time.time() - 1000
    commit_checkpoint(directory)
    attempt.end(Outcome.TERMINATED)
    assert status(directory).lost_seconds < 1


def test_damaged_files_are_named_and_hide_nothing_else(directory):
    start_attempt(directory, **FACTS).end(Outcome.TERMINATED)
    start_attempt(directory, **FACTS).end(Outcome.FINISHED)
    (directory.attempts_dir / "002.json").write_text('{"host": "no')
    log(directory, 1.0, 2.0)
    with (directory.path / "metrics.jsonl").open("a") as file:
        file.write('\x00\x00garbage\n{"node": "z", "epo')  # the last line is one being written
    run = status(directory)
    assert (run.state, run.epoch, run.attempts) == ("stopped", 2, 2)
    assert run.problems == [
        f"{directory.attempts_dir}/002.json: damaged (Unterminated string starting at: line 1 column 10 (char 9))",
        f"{directory.path}/metrics.jsonl: damaged in 1 of 3 lines",
    ]


@pytest.mark.parametrize("content", ["", "[]", "null", '{"host": 1, "start": 2, "end": 3, "stop_reason": []}'])
def test_nonsense_in_a_record_is_survived(directory, content):
    start_attempt(directory, **FACTS).path.write_text(content)
    assert status(directory).problems


def test_runs_are_found_at_any_depth_and_once(tmp_path, directory):
    for name in ("multirun/sweep/lr=0.1", "multirun/sweep/lr=0.2"):
        empty_run(tmp_path / name)
    found = read_runs([tmp_path, tmp_path / "outputs", directory.path])
    names = [str(Path(run.run_dir).relative_to(tmp_path)) for run in found]
    assert names == ["multirun/sweep/lr=0.1", "multirun/sweep/lr=0.2", "outputs/moons"]


def run_command(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "framework.status", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_prints_a_table_and_json(tmp_path, directory):
    start_attempt(directory, **FACTS).end(Outcome.TERMINATED)
    log(directory, 0.5)
    shown = run_command(cwd=tmp_path).stdout.splitlines()
    assert shown[1].split() == ["outputs/moons", "stopped", "z", "1/300", "0.5000", "–", "1", "–", "–", "812_3"]
    assert shown[2] == "1 run: 1 stopped"
    (run,) = json.loads(run_command("outputs", "--json", cwd=tmp_path).stdout)
    assert (run["run_dir"], run["state"], run["epoch"]) == ("outputs/moons", "stopped", 1)


def test_the_losses_of_several_nodes_are_shown_beside_their_sum(tmp_path, directory):
    start_attempt(directory, **{**FACTS, "num_epochs": {"z": 300, "y": 300}})
    log(directory, 0.5)
    assert "best loss by node" in (shown := run_command(cwd=tmp_path).stdout)
    assert "– z 0.5000, y –" in shown
    with (directory.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"node": "y", "epoch": 1, "step": 1, "best_loss": -1.0}) + "\n")
    save_checkpoint(directory, {"z": {"epoch": 1, "step": 1, "best_loss": 0.5}})
    assert "-0.5000 z 0.5000, y -1.0000" in run_command(cwd=tmp_path).stdout
    (run,) = json.loads(run_command("--json", cwd=tmp_path).stdout)
    assert (run["best_loss"], run["best_losses"]) == (-0.5, {"z": 0.5, "y": -1.0})


def test_a_directory_that_is_not_there_is_bad_input(tmp_path):
    result = run_command("elsewhere", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "elsewhere: no such directory" in result.stderr


def test_the_command_loads_neither_torch_nor_wandb():
    code = "import framework.status, sys; print({'torch', 'wandb', 'numpy'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr


def test_a_thousand_runs_are_read_in_seconds(tmp_path, directory):
    attempt = start_attempt(directory, **FACTS).path.read_text()
    log(directory, *[0.1] * 100)
    metrics = (directory.path / "metrics.jsonl").read_text()
    for number in range(1000):
        run_dir = tmp_path / f"multirun/{number}"
        (run_dir / "attempts").mkdir(parents=True)
        (run_dir / "attempts/001.json").write_text(attempt)
        (run_dir / "metrics.jsonl").write_text(metrics)
    started = time.process_time()
    assert len(read_runs([tmp_path / "multirun"])) == 1000
    assert time.process_time() - started < 10


def test_a_job_in_the_queue_is_a_run_that_waits(tmp_path):
    write_job(tmp_path / "seed=1", JobRecord("slurm", "12_1"))
    (run,) = read_runs([tmp_path])
    assert (run.state, run.job_id) == ("waiting", "12_1")


def test_a_job_that_failed_outside_of_its_attempts_is_failed(directory):
    record_exit(directory.path, 2, is_failure=True)
    assert status(directory).state == "failed"
    start_attempt(directory, **FACTS).end(Outcome.FINISHED)
    assert status(directory).state == "finished"


def test_a_start_that_was_refused_leaves_a_finished_run_finished(directory):
    start_attempt(directory, **FACTS).end(Outcome.FINISHED)
    record_exit(directory.path, 3, is_failure=True)
    assert status(directory).state == "finished"
    record_exit(directory.path, 1, is_failure=True)
    assert status(directory).state == "failed"


def forget(monkeypatch, path, number, times=10**9):
    """Have the file system not list a directory, so often."""
    left = [times]

    def failing(real):
        def call(directory):
            if Path(directory) == path and left[0]:
                left[0] -= 1
                raise OSError(number, os.strerror(number), str(directory))
            return real(directory)

        return call

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))


def test_a_run_that_is_not_listed_for_a_moment_is_shown(directory, monkeypatch):
    start_attempt(directory, **FACTS).end(Outcome.FINISHED)
    forget(monkeypatch, directory.path, errno.ESTALE, times=2)
    (found,) = read_runs([directory.path.parent])
    assert found.state == "finished"


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_run_that_is_not_listed_now_says_so_and_others_are_shown(directory, monkeypatch, number):
    other = empty_run(directory.path.parent / "other")
    for run in (directory, other):
        start_attempt(run, **FACTS).end(Outcome.FINISHED)
    forget(monkeypatch, directory.path, number)
    assert [Path(run.run_dir).name for run in read_runs([directory.path.parent])] == ["moons", "other"]
