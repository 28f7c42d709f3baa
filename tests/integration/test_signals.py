"""Signals and the end of the allocation, in each phase of the real command: what is saved, said and returned."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.integration.command import TINY, environment

SIMULATOR = """
import time
from pathlib import Path
import torch

def slow(z, rng):
    with Path("calls").open("a") as file:
        file.write(".")
    time.sleep(0.005)
    return z + rng.normal(size=2)

class SlowFlatten(torch.nn.Flatten):
    def forward(self, x):
        time.sleep(0.002)
        return super().forward(x)
"""
EXPERIMENT = """# @package _global_
name: slow
graph:
  z: {evidence: [x]}
  x: {parents: [z], simulator: {_target_: simulator.slow}, observed: observed.npy}
priors:
  z: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}
embedding: {_target_: simulator.SlowFlatten}
"""
OVERRIDES = [
    "--config-dir=conf",
    "experiment=slow",
    *TINY,
    "loop.num_epochs=12",
    "loop.batch_size=20",
    "loop.early_stop_patience=null",
    "inference.num_samples=200",
    "inference.num_predictive=200",
]
RUN_DIR = Path("outputs/slow")
STOPS = {
    signal.SIGTERM: (99, "Terminated"),
    signal.SIGINT: (130, "Interrupted"),
    signal.SIGUSR2: (99, "Stopped for requeue"),
}


def new_project(directory):
    directory.mkdir(exist_ok=True)
    (directory / "simulator.py").write_text(SIMULATOR)
    np.save(directory / "observed.npy", np.zeros(2))
    (directory / "conf/experiment").mkdir(parents=True)
    (directory / "conf/experiment/slow.yaml").write_text(EXPERIMENT)
    return directory


def start(cwd, *overrides, **variables):
    command = [sys.executable, "-u", "-m", "framework.train", *OVERRIDES, *overrides]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=cwd, env={**environment(), **variables}, **pipes)


def finish(process):
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run directory of an uninterrupted run."""
    directory = new_project(tmp_path_factory.mktemp("whole"))
    process = start(directory)
    out = finish(process)
    assert process.returncode == 0, out
    return directory / RUN_DIR


@pytest.fixture
def project(tmp_path):
    return new_project(tmp_path / "project")


def handlers_are_installed(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status).group(1), 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def has_checkpoint(cwd):
    return any((cwd / RUN_DIR).glob("checkpoints/*/manifest.json"))


def num_lines(path):
    return path.read_text().count("\n") if path.exists() else 0


REACHED = {
    "starting": lambda process, cwd: handlers_are_installed(process),
    "simulating": lambda process, cwd: (cwd / "calls").exists() and (cwd / "calls").stat().st_size > 30,
    "training": lambda process, cwd: num_lines(cwd / RUN_DIR / "metrics.jsonl") >= 3,
    "sampling and reporting": lambda process, cwd: (cwd / RUN_DIR / "samples/posterior/z.npz").exists(),
}


def wait_for(phase, process, cwd):
    deadline = time.monotonic() + 60
    while not REACHED[phase](process, cwd):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, f"{phase}: not reached"
        time.sleep(0.005)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def same_run(a, b):
    """Tell whether two run directories hold the same numbers."""
    assert (a / "metrics.jsonl").read_text() == (b / "metrics.jsonl").read_text()
    for name in ("samples/posterior/z.npz", "samples/predictive/x.npz"):
        first, second = arrays(a / name), arrays(b / name)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in first)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("phase", REACHED)
def test_a_signal_stops_the_run_which_ends_as_if_nothing_had_happened(whole, project, phase, number):
    exit_code, word = STOPS[number]
    process = start(project)
    wait_for(phase, process, project)
    process.send_signal(number)
    out = finish(process)
    assert process.returncode == exit_code, out
    assert "Traceback" not in out
    if phase == "training":
        assert re.search(rf"⚠ {word} at epoch \d+/12 — model \+ weights saved to outputs/slow/checkpoints/\S+/z/", out)
        assert (project / RUN_DIR / "checkpoints/latest/manifest.json").exists()
        assert not (project / RUN_DIR / "samples").exists()
    else:
        assert f"⚠ {word} while {phase}" in out
    assert not (project / RUN_DIR / "report/report.html").exists()

    process = start(project, *(["+resume=true"] if phase != "starting" else []))
    out = finish(process)
    assert process.returncode == 0, out
    assert same_run(project / RUN_DIR, whole)


@pytest.mark.slow
@pytest.mark.parametrize("phase", REACHED)
def test_usr1_and_cont_do_not_end_the_run_in_any_phase(whole, project, phase):
    process = start(project)
    wait_for(phase, process, project)
    for number in (signal.SIGUSR1, signal.SIGCONT):
        process.send_signal(number)
    out = finish(process)
    assert process.returncode == 0, out
    assert same_run(project / RUN_DIR, whole)


def test_usr1_saves_and_the_run_goes_on(project):
    process = start(project, "loop.num_epochs=100000")
    wait_for("training", process, project)
    assert not has_checkpoint(project)
    process.send_signal(signal.SIGUSR1)
    assert eventually(lambda: has_checkpoint(project))
    epochs = num_lines(project / RUN_DIR / "metrics.jsonl")
    assert eventually(lambda: num_lines(project / RUN_DIR / "metrics.jsonl") > epochs + 1)
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert process.returncode == 99


@pytest.mark.slow
def test_a_second_interrupt_ends_the_run_at_once_and_what_was_committed_is_intact(project):
    process = start(project, "runtime.drain=epoch", "loop.batch_size=2", "loop.num_epochs=100000")
    wait_for("training", process, project)
    process.send_signal(signal.SIGUSR1)
    assert eventually(lambda: has_checkpoint(project))
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out = finish(process)
    assert process.returncode == 130
    assert "Second signal" in out and "at epoch" not in out
    process = start(project, "+resume=true", "loop.batch_size=2", "loop.num_epochs=1")
    out = finish(process)
    assert process.returncode == 0, out


@pytest.mark.slow
def test_simulation_workers_neither_react_nor_outlive_the_run(whole, project):
    process = start(project, "simulation.workers=2")
    wait_for("simulating", process, project)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in children:
        os.kill(int(pid), signal.SIGUSR2)
    os.kill(process.pid, signal.SIGTERM)
    out = finish(process)
    assert process.returncode == 99 and "⚠ Terminated while simulating" in out
    assert children and eventually(lambda: not any(map(is_alive, children)))
    process = start(project, "+resume=true")
    out = finish(process)
    assert process.returncode == 0, out
    assert same_run(project / RUN_DIR, whole)


@pytest.mark.slow
def test_a_drained_epoch_is_finished_and_the_next_one_is_the_first_that_is_trained(whole, project):
    process = start(project, "runtime.drain=epoch")
    wait_for("training", process, project)
    process.send_signal(signal.SIGTERM)
    out = finish(process)
    assert process.returncode == 99, out
    stopped_after = int(re.search(r"⚠ Terminated at epoch (\d+)/12", out).group(1))
    assert num_lines(project / RUN_DIR / "metrics.jsonl") == stopped_after  # the epoch was completed
    process = start(project, "+resume=true", "runtime.drain=epoch")
    out = finish(process)
    assert process.returncode == 0 and f"↻ Resuming z from epoch {stopped_after}/12" in out
    assert same_run(project / RUN_DIR, whole)


@pytest.mark.slow
def test_near_the_end_of_the_allocation_the_run_stops_by_itself(project):
    started = time.time()
    budget = ["runtime.wall_clock_budget=auto", "runtime.checkpoint_before_end=15s", "loop.num_epochs=100000"]
    process = start(project, *budget, SLURM_JOB_END_TIME=str(int(started + 45)))
    out = finish(process)
    assert process.returncode == 99, out
    assert "(from SLURM_JOB_END_TIME) — will checkpoint at" in out
    assert "⚠ Out of time at epoch" in out
    manifest = project / RUN_DIR / "checkpoints/latest/manifest.json"
    assert started + 28.9 <= manifest.stat().st_mtime <= started + 44


def test_without_a_limit_the_start_line_says_so(project):
    process = start(project, "runtime.wall_clock_budget=auto")
    wait_for("simulating", process, project)
    process.send_signal(signal.SIGINT)
    assert "⏱ Wall-clock budget: off (no scheduler here tells when it ends" in finish(process)
