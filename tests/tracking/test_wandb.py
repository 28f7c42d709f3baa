"""W&B through its real SDK, against a server on this machine: each step arrives exactly once, despite interruptions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from framework.errors import ConfigError
from framework.inference.report import NodeReport, write_report
from framework.records import write_record
from framework.rundir.directory import RunDirectory
from framework.rundir.run_config import write_config
from framework.tracking import JsonlTracker, WandbTracker
from framework.tracking.wandb_ledger import Ledger
from tests.support.fake_wandb import FakeWandb
from tests.support.toy_run import start_attempt

RUN_ID = "0123456789abcdef"


@pytest.fixture
def server(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setenv("WANDB_BASE_URL", fake.url)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")  # of the SDK: 15 s, to spare real servers
    monkeypatch.setenv("WANDB__DISABLE_STATS", "true")
    yield fake
    fake.stop()


@pytest.fixture
def run_dir(tmp_path):
    write_config(tmp_path / "config.yaml", {"name": "moons", "network": {"hidden_dim": 64}})
    write_record(tmp_path / "run.json", {"run_id": RUN_ID})
    start_attempt(RunDirectory(tmp_path), host="node07", job_id="812")
    return tmp_path


def attempt(
    run_dir, epochs, resume_at=0, mode="online", loss=lambda epoch: 1 / epoch, meanwhile=None, finish_seconds=8
):
    """Train node z from a checkpoint's epoch over `epochs`, and close unless `meanwhile` returns False."""
    trackers = [JsonlTracker(run_dir), WandbTracker(run_dir, mode=mode, finish_seconds=finish_seconds)]
    for tracker in trackers:
        tracker.cut_back("z", resume_at * 10)
    for epoch in epochs:
        for tracker in trackers:
            tracker.log({"node": "z", "epoch": epoch, "step": epoch * 10, "val_loss": loss(epoch)})
    closing = meanwhile is None or meanwhile(trackers[1])
    if closing is not False:
        for tracker in trackers:
            tracker.close()
    return trackers[1]


def steps(server):
    return [row["trainer/global_step"] for row in server.rows(RUN_ID) if "trainer/global_step" in row]


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_attempts_are_one_run_with_each_step_once(server, run_dir):
    attempt(run_dir, range(1, 6))
    attempt(run_dir, range(6, 9), resume_at=5)
    attempt(run_dir, range(7, 11), resume_at=6)  # the one before was killed after its last checkpoint
    assert list(server.history) == [RUN_ID]
    assert steps(server) == list(range(10, 101, 10))
    assert [row["z/val_loss"] for row in server.rows(RUN_ID)] == [1 / epoch for epoch in range(1, 11)]
    assert server.configs[RUN_ID]["network"]["value"] == {"hidden_dim": 64}
    assert server.configs[RUN_ID]["attempts"]["value"]["001"]["job_id"] == "812"


@pytest.mark.parametrize("supports_rewind", [True, False])
def test_a_changed_trajectory_replaces_what_was_there(server, run_dir, supports_rewind):
    server.supports_rewind = supports_rewind
    attempt(run_dir, range(1, 9))
    attempt(run_dir, range(5, 10), resume_at=4, loss=lambda epoch: 2.0)
    newest = {row["trainer/global_step"]: row["z/val_loss"] for row in server.rows(RUN_ID)}
    assert newest == {10 * epoch: 1 / epoch if epoch < 5 else 2.0 for epoch in range(1, 10)}
    assert len(steps(server)) == (9 if supports_rewind else 13)


def test_lines_after_one_that_was_lost_are_not_sent_again(server, run_dir):
    server.supports_rewind = False
    attempt(run_dir, range(1, 6))
    path = run_dir / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    attempt(run_dir, range(6, 8), resume_at=5)
    assert steps(server) == list(range(10, 71, 10))


@pytest.mark.campaign
def test_a_server_that_dies_in_the_middle_loses_nothing(server, run_dir):
    def die(tracker):
        assert eventually(lambda: steps(server))
        server.stop()

    attempt(run_dir, range(1, 4), meanwhile=die, finish_seconds=0.5)
    attempt(run_dir, range(4, 6), resume_at=3, finish_seconds=0.5)
    server.start()
    attempt(run_dir, range(6, 8), resume_at=5)
    assert steps(server) == list(range(10, 71, 10))


def test_a_server_that_refuses_costs_one_warning_and_no_time(server, run_dir, capfd, caplog):
    server.available = False
    tracker = WandbTracker(run_dir, mode="online", finish_seconds=1)
    started = time.monotonic()
    for epoch in range(1, 1001):
        tracker.log({"node": "z", "epoch": epoch, "step": epoch})
    assert time.monotonic() - started < 1
    started = time.monotonic()
    tracker.close()
    assert time.monotonic() - started < 10
    assert (capfd.readouterr().err + caplog.text).count("⚠ W&B") == 1


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in tasks for child in path.read_text().split()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.campaign)])
def test_a_process_of_the_sdk_that_is_killed_or_hangs_loses_nothing(server, run_dir, number):
    cores = []

    def kill(tracker):
        assert eventually(lambda: steps(server))
        cores.extend(children_of(tracker._mirror.pid))
        for pid in cores:
            os.kill(pid, number)

    attempt(run_dir, range(1, 4), meanwhile=kill, finish_seconds=0.5)
    for pid in cores:
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)
    assert cores and eventually(lambda: not any(map(is_alive, cores)))
    attempt(run_dir, range(4, 6), resume_at=3)
    assert steps(server) == list(range(10, 51, 10))


def test_sigterm_to_all_processes_of_the_job_lets_the_rest_be_sent(server, run_dir):
    def terminate(tracker):
        assert eventually(lambda: steps(server))
        for pid in [tracker._mirror.pid, *children_of(tracker._mirror.pid)]:
            os.kill(pid, signal.SIGTERM)
        JsonlTracker(run_dir).log({"node": "z", "epoch": 4, "step": 40})

    attempt(run_dir, range(1, 4), meanwhile=terminate)
    assert steps(server) == [10, 20, 30, 40]


def test_the_process_ends_with_a_training_that_was_killed(server, run_dir):
    def disappear(tracker):
        assert eventually(lambda: steps(server))
        pids = [tracker._mirror.pid, *children_of(tracker._mirror.pid)]
        tracker._mirror.stdin.close()  # as the kernel does for the dead
        assert eventually(lambda: not any(map(is_alive, pids)))
        return False

    attempt(run_dir, range(1, 4), meanwhile=disappear)._mirror.wait(10)
    assert steps(server) == [10, 20, 30]


@pytest.mark.campaign
def test_offline_segments_sync_into_one_run_in_order_and_one_that_was_killed_is_written_again(
    server, run_dir, monkeypatch
):
    def kill(tracker):
        assert eventually(lambda: len(list((run_dir / "wandb").glob("offline-run-*"))) == 2)
        tracker._mirror.kill()
        tracker._mirror.wait()

    monkeypatch.delenv("WANDB_API_KEY")
    attempt(run_dir, range(1, 3), mode="offline")
    attempt(run_dir, range(3, 5), resume_at=2, mode="offline", meanwhile=kill)
    attempt(run_dir, range(4, 7), resume_at=3, mode="offline")
    assert not server.operations
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    segments = sorted((run_dir / "wandb").glob("offline-run-*"))
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, segments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=run_dir)
    assert len(segments) == 2
    assert steps(server) == list(range(10, 61, 10))


def test_the_table_of_the_posterior_names_the_parameters(run_dir):
    samples = np.random.default_rng(0).normal(size=(2, 100, 2))
    node = NodeReport("theta", history=[], best_epoch=0, samples=samples, labels=["rate", "half-life"])
    write_report(run_dir / "report", title="a title", run_info={}, nodes=[node])
    attempt(run_dir, range(1, 3), mode="offline")
    (path,) = run_dir.glob("wandb/offline-run-*/files/media/table/report/theta_posterior*.json")
    table = json.loads(path.read_text())
    named = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["observation"], row["parameter"]) for row in named] == [
        (observation, label) for observation in (0, 1) for label in ("rate", "half-life")
    ]


def test_disabled_starts_nothing(run_dir):
    attempt(run_dir, range(1, 3), mode="disabled")
    assert not (run_dir / "wandb").exists()


def test_an_unknown_mode_is_refused(run_dir):
    with pytest.raises(ConfigError, match=r"tracking.wandb.mode=cloud: expected offline, online, disabled"):
        WandbTracker(run_dir, mode="cloud")


SENT = [json.dumps({"node": "z", "step": step}) for step in (10, 20)]


def finished_ledger(directory):
    ledger = Ledger(directory)
    ledger.start(None, "offline-run-1")
    (directory / "offline-run-1").mkdir()
    for line in SENT:
        ledger.add(line)
    ledger.mark_sent("offline-run-1")


def test_the_next_attempt_knows_the_finished_segments(tmp_path):
    finished_ledger(tmp_path / "wandb")
    ledger = Ledger(tmp_path / "wandb")
    ledger.start(None, "offline-run-2")
    assert all(map(ledger.has, SENT)) and (tmp_path / "wandb/offline-run-1").is_dir()


@pytest.mark.parametrize("content", ["", "{}", "5", "null", '{"num_lines": 1e999, "segments": 3}', "[" * 100_000])
def test_if_the_list_of_finished_segments_is_damaged_all_is_sent_again(tmp_path, content, capsys):
    finished_ledger(tmp_path / "wandb")
    (tmp_path / "wandb/settled.json").write_text(content)
    ledger = Ledger(tmp_path / "wandb")
    ledger.start(None, "offline-run-2")
    assert not any(map(ledger.has, SENT)) and "settled.json: damaged" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{}", "5", "null", "[1]", '{"node": [], "step": {}}', "[" * 100_000])
def test_a_damaged_line_of_the_ledger_is_sent_again(tmp_path, line):
    finished_ledger(tmp_path / "wandb")
    (tmp_path / "wandb/sent.jsonl").write_text(f"{line}\n{SENT[1]}\n")
    ledger = Ledger(tmp_path / "wandb")
    ledger.start(None, "offline-run-2")
    assert [ledger.has(line) for line in SENT] == [False, True]


def test_nothing_is_written_for_wandb_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "wandb").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        Ledger(tmp_path / "wandb").start(None, "offline-run-1")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_lines_that_are_no_records_are_not_sent(server, run_dir):
    attempt(run_dir, range(1, 3))
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.writelines(f"{line}\n" for line in ("{}", "5", "null", "[1]", "", '{"node": "z", "step": "x"}'))
    tracker = WandbTracker(run_dir, mode="online", finish_seconds=8)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"node": "z", "epoch": 3, "step": 30, "val_loss": 1 / 3}) + "\n")
    tracker.close()
    assert steps(server) == [10, 20, 30]
    assert not any(name.endswith("check") for row in server.rows(RUN_ID) for name in row)
