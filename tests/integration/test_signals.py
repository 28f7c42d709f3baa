"""Signals and the end of the allocation, in each phase of the real command: what is saved, said and returned."""

import os
import re
import signal
import time
from itertools import islice
from pathlib import Path

import pytest

from tests.support.command import cold_start, warm_start
from tests.support.slow_project import PHASES, SlowProject, is_alive, same_run, until

STOPS = {
    signal.SIGTERM: (99, "Terminated"),
    signal.SIGINT: (130, "Interrupted"),
    signal.SIGUSR2: (99, "Stopped for requeue"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project with an uninterrupted run."""
    project = SlowProject(tmp_path_factory.mktemp("whole"))
    result = project.run()
    assert result.returncode == 0, result.stderr
    return project


@pytest.fixture
def project(tmp_path):
    return SlowProject(tmp_path)


def stopped_as_promised(result, number, phase, run_dir):
    exit_code, word = STOPS[number]
    out = result.stdout + result.stderr
    assert result.returncode == exit_code, out
    assert "Traceback" not in out
    if phase == "training":
        assert re.search(rf"⚠ {word} at epoch \d+/12 — model \+ weights saved to outputs/slow/checkpoints/\S+/z/", out)
        assert (run_dir / "checkpoints/latest/manifest.json").exists()
        assert not (run_dir / "samples").exists()
    else:
        assert f"⚠ {word} while {phase}" in out
    return not (run_dir / "report/report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "start"),
    [
        pytest.param(0, cold_start, id="TERM", marks=pytest.mark.campaign),
        pytest.param(1, warm_start, id="INT", marks=pytest.mark.campaign),
        pytest.param(2, warm_start, id="USR2", marks=pytest.mark.campaign),
    ],
)
def test_a_run_stopped_in_every_phase_ends_as_if_nothing_had_happened(whole, project, first, start):
    """The three tests together send every signal in every phase."""
    numbers = islice([*STOPS, *STOPS], first, None)
    resume = []
    for phase, number in zip(PHASES, numbers, strict=False):
        start_here = cold_start if phase == "starting" else start
        result = project.stop(phase, number, *resume, start=start_here)
        assert stopped_as_promised(result, number, phase, project.run_dir)
        resume = ["+resume=true"] if phase != "starting" else []
    result = project.run(*resume, start=start)
    assert result.returncode == 0, result.stderr
    assert same_run(project.run_dir, whole.run_dir)
    assert project.steps == whole.steps


@pytest.mark.slow
def test_usr1_and_cont_do_not_end_the_run_in_any_phase(whole, project):
    for phase in PHASES:
        project.hold(phase)
    process = project.start(start=cold_start)
    for phase in PHASES:
        project.wait_for(phase, process)
        for number in (signal.SIGUSR1, signal.SIGCONT):
            process.send(number)
        project.release(phase)
    assert process.wait().returncode == 0
    assert same_run(project.run_dir, whole.run_dir)


def test_usr1_saves_and_the_run_continues(project):
    project.hold("training")
    process = project.start("loop.num_epochs=100000")
    project.wait_for("training", process)
    assert not project.has_checkpoint
    process.send(signal.SIGUSR1)
    project.release("training")
    until(lambda: project.has_checkpoint, process)
    num_epochs = project.num_epochs
    until(lambda: project.num_epochs > num_epochs + 1, process)
    process.send(signal.SIGTERM)
    assert process.wait().returncode == 99


def test_a_second_interrupt_ends_the_run_at_once_and_what_was_committed_is_intact(project):
    project.hold("training")
    process = project.start()
    project.wait_for("training", process)
    process.send(signal.SIGUSR1)
    project.hold("training", calls=60)
    project.wait_for("training", process)
    while process.poll() is None:  # it cannot stop by itself where it is held
        process.send(signal.SIGINT)
        time.sleep(0.1)
    result = process.wait()
    assert result.returncode == 130
    assert "Second signal" in result.stderr and "at epoch" not in result.stdout
    project.release("training")
    result = project.run("+resume=true")
    assert result.returncode == 0 and "↻ Resuming z from epoch 4/12" in result.stdout


@pytest.mark.slow
def test_simulation_workers_neither_react_nor_outlive_the_run(whole, project):
    project.hold("simulating")
    process = project.start("simulation.workers=2")
    project.wait_for("simulating", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in children:
        os.kill(int(pid), signal.SIGUSR2)
    process.send(signal.SIGTERM)
    project.release("simulating")
    result = process.wait()
    assert stopped_as_promised(result, signal.SIGTERM, "simulating", project.run_dir)
    assert len(children) >= 2
    until(lambda: not any(map(is_alive, children)))
    result = project.run("+resume=true")
    assert result.returncode == 0, result.stderr
    assert same_run(project.run_dir, whole.run_dir)


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_signal_while_a_finished_run_exits_does_not_change_its_exit_code(project, number):
    result = project.stop("exiting", number, "inference.report=false", calls=0)
    assert result.returncode == 0
    assert "Traceback" not in result.stderr


LONGER = ["loop.num_epochs=100", "loop.batch_size=50"]


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A project with an uninterrupted run of 100 epochs of 5 steps."""
    project = SlowProject(tmp_path_factory.mktemp("longer"))
    result = project.run(*LONGER)
    assert result.returncode == 0, result.stderr
    return project


@pytest.mark.parametrize(("drain", "num_steps"), [("epoch", 250), ("step", 247)])
def test_interrupted_in_epoch_50_of_100_no_batch_is_left_out_or_seen_twice(longer, project, drain, num_steps):
    """With drain=epoch the 50th is finished and the next that is trained is the 51st."""
    settings = [*LONGER, f"runtime.drain={drain}"]
    result = project.stop("training", signal.SIGINT, *settings, calls=246)
    assert result.returncode == 130 and "⚠ Interrupted at epoch 50/100" in result.stdout + result.stderr
    assert (len(project.steps), project.num_epochs) == (num_steps, num_steps // 5)
    result = project.run(*settings, "+resume=true")
    assert result.returncode == 0 and "↻ Resuming z from epoch 50/100" in result.stdout
    assert project.steps == longer.steps and len(longer.steps) == 500
    assert same_run(project.run_dir, longer.run_dir)


def test_near_the_end_of_the_allocation_the_run_stops_by_itself(project):
    started = time.time()
    budget = ["runtime.wall_clock_budget=auto", "runtime.checkpoint_before_end=57s", "loop.num_epochs=100000"]
    result = project.run(*budget, SLURM_JOB_END_TIME=str(int(started) + 60))
    assert result.returncode == 99, result.stderr
    assert "(from SLURM_JOB_END_TIME) — will checkpoint at" in result.stdout
    assert "⚠ Out of time" in result.stdout + result.stderr
    assert int(started) + 3 <= time.time() < started + 60


def test_without_a_limit_the_start_line_says_so(project):
    result = project.stop("simulating", signal.SIGINT, "runtime.wall_clock_budget=auto")
    assert "⏱ Wall-clock budget: off (no scheduler here reports when it ends" in result.stdout


def test_a_step_that_outlasts_the_grace_time_is_cut_off_and_the_requeued_job_resumes(whole, project, commands):
    commands("scontrol", {"show job 7": "JobState=COMPLETING Reason=TimeLimit BatchFlag=1", "requeue 7": ""})
    project.hold("training")
    process = project.start("runtime.grace=1s", SLURM_JOB_ID="7", PATH=os.environ["PATH"])
    project.wait_for("training", process)
    process.send(signal.SIGTERM)
    result = process.wait()
    assert result.returncode == 99 and "Out of time in a long call" in result.stderr
    assert commands.calls()[-1] == "scontrol requeue 7", result.stderr
    project.release("training")
    (project.directory / "steps").unlink()  # no checkpoint was due yet
    result = project.run(SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1", PATH=os.environ["PATH"])
    assert result.returncode == 0, result.stderr
    assert same_run(project.run_dir, whole.run_dir)
    assert project.steps == whole.steps
