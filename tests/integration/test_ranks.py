"""Several processes that train one run: the same batches, one writer, and a stop that all take at the same step."""

import signal
import socket

import numpy as np
import pytest

from tests.support.command import cold_start
from tests.support.recording import RecordingProject, lay_out, saved_steps, together, trained_alone
from tests.support.slow_project import handlers_are_installed, same_run, until

USR2, TERM, KILL = (str(int(number)) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL))


@pytest.fixture
def project(tmp_path):
    return RecordingProject(tmp_path / "project")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained_alone(tmp_path_factory.mktemp("alone") / "project")


def codes(results):
    return [result.returncode for result in results]


def no_traceback(results):
    return not any("Traceback" in result.stderr for result in results)


def test_processes_that_train_together_share_each_batch_of_a_process_alone(project, alone):
    results = project.run(3)
    assert codes(results) == [0, 0, 0], results
    assert project.steps(3) == alone.steps(1)
    np.testing.assert_allclose(project.losses(), alone.losses(), rtol=1e-4)
    assert "best validation loss" in results[0].stdout
    assert [result.stdout for result in results[1:]] == ["", ""]


def test_all_stop_at_the_step_at_which_any_is_signalled_and_one_process_resumes(project, alone):
    stopped = project.run(2, INTERRUPT="1 at step 7", NUMBER=USR2)
    assert codes(stopped) == [99, 99], stopped
    assert "Stopped for requeue at epoch 2/4" in stopped[0].stdout
    assert saved_steps(project.run_dir) == len(project.steps(2)) == 7
    before = project.steps(2)
    (resumed,) = project.run(1, "+resume=true")
    assert resumed.returncode == 0, resumed.stderr
    assert (
        "the number of processes has changed from 2 to 1: same batches, but not bit-for-bit equal results"
        in resumed.stdout
    )
    assert before + project.steps(1, first=7) == alone.steps(1)
    np.testing.assert_allclose(project.losses(), alone.losses(), rtol=1e-4)


def test_the_same_number_of_ranks_resumes_bit_for_bit_each_with_its_own_random_numbers(project, tmp_path):
    whole = RecordingProject(tmp_path / "whole")
    assert codes(whole.run(3, DROPOUT="0.3")) == [0, 0, 0]
    assert codes(project.run(3, DROPOUT="0.3", INTERRUPT="0 at step 8", NUMBER=TERM)) == [99, 99, 99]
    resumed = project.run(3, "+resume=true", DROPOUT="0.3")
    assert codes(resumed) == [0, 0, 0], resumed
    assert "bit-for-bit" not in resumed[0].stdout
    assert project.steps(3) == whole.steps(3)
    assert same_run(project.run_dir, whole.run_dir)


def test_a_checkpoint_of_one_process_is_resumed_by_several(project, alone):
    assert codes(project.run(1, INTERRUPT="0 at step 12", NUMBER=TERM)) == [99]
    (project.directory / "steps-0").unlink()
    resumed = project.run(2, "+resume=true")
    assert codes(resumed) == [0, 0], resumed
    assert project.steps(2) == alone.steps(1)[12:]
    np.testing.assert_allclose(project.losses(), alone.losses(), rtol=1e-4)
    again = project.run(2, "+resume=true")
    assert codes(again) == [0, 0] and "has already finished" in again[0].stdout


def test_when_one_is_killed_the_others_end_and_the_last_step_is_saved(project, alone):
    results = project.run(2, INTERRUPT="1 at step 7", NUMBER=KILL)
    assert codes(results) == [1, -signal.SIGKILL], results
    assert "process 0 of 2" in results[0].stderr and no_traceback(results)
    assert "epoch 2/4 is saved: resume with +resume=true" in results[0].stderr
    assert saved_steps(project.run_dir) == 6
    assert codes(project.run(1, "+resume=true")) == [0]
    np.testing.assert_allclose(project.losses()[:, 1], alone.losses()[:, 1], rtol=1e-4)
    interrupted = 1  # of this epoch's training loss, the part of the one that was killed is lost
    others = [0, 2, 3]
    np.testing.assert_allclose(project.losses()[others, 0], alone.losses()[others, 0], rtol=1e-4)
    np.testing.assert_allclose(project.losses()[interrupted, 0], alone.losses()[interrupted, 0], rtol=0.05)


def test_when_one_ends_before_the_first_step_the_others_end(project):
    results = project.run(3, INTERRUPT="1 at start", NUMBER=KILL)
    assert codes(results) == [1, -signal.SIGKILL, 1], results
    assert "one of the others is gone (" in results[0].stderr and no_traceback(results)


def test_one_that_is_gone_does_not_change_how_rank_0_ends_that_was_asked_to_stop(project):
    variables = together(2)
    ends = [("0 at step 7", TERM), ("1 at step 7", KILL)]
    processes = [project.start_one(i, INTERRUPT=end[0], NUMBER=end[1], **variables) for i, end in enumerate(ends)]
    results = [process.wait() for process in processes]
    assert codes(results) == [99, -signal.SIGKILL], results
    assert saved_steps(project.run_dir) == 6

    processes = project.start(2, "name=other", SIMULATION_SECONDS="0.01")
    until((project.directory / "outputs/other/simulations").exists, processes[0])
    for process, number in zip(processes, (signal.SIGTERM, signal.SIGKILL), strict=True):
        process.send(number)
    assert codes([process.wait() for process in processes]) == [99, -signal.SIGKILL]


def test_a_rank_that_is_connecting_can_be_stopped(project):
    process = project.start_one(1, **together(2))
    until(lambda: handlers_are_installed(process), process)
    process.send(signal.SIGTERM)
    result = process.wait()
    assert result.returncode == 99 and "while connecting to the other processes" in result.stderr


def test_when_rank_0_is_killed_the_others_end(project):
    results = project.run(3, INTERRUPT="0 at step 7", NUMBER=KILL)
    assert codes(results) == [-signal.SIGKILL, 1, 1], results
    assert "process 1 of 3" in results[1].stderr and no_traceback(results)


def test_what_ends_rank_0_before_training_ends_all_with_its_exit_code(project):
    assert codes(project.run(2, INTERRUPT="0 at simulation", NUMBER=TERM)) == [99, 99]
    assert codes(project.run(1, INTERRUPT="0 at step 1", NUMBER=TERM)) == [99]
    refused = project.run(2, "+resume=true", "network.hidden_dim=9")
    assert codes(refused) == [3, 3] and no_traceback(refused)
    assert "network.hidden_dim" in refused[0].stderr and refused[1].stderr == ""


def test_a_signal_that_another_rank_gets_while_rank_0_simulates_counts_at_the_first_step(project):
    processes = project.start(2, SIMULATION_SECONDS="0.01")
    until((project.run_dir / "simulations").exists, processes[0])
    processes[1].send(signal.SIGUSR2)
    results = [process.wait() for process in processes]
    assert codes(results) == [99, 99], results
    assert saved_steps(project.run_dir) == 0


def test_processes_with_other_command_lines_are_not_one_run(project):
    variables = together(2)
    processes = [project.start_one(rank, f"seed={rank}", **variables) for rank in range(2)]
    results = [process.wait() for process in processes]
    assert codes(results) == [2, 2] and no_traceback(results)
    assert "seed=0 | " in results[0].stderr and "start each run with an srun of its own" in results[0].stderr


def test_a_batch_needs_a_simulation_for_each_process(project):
    results = project.run(2, "loop.batch_size=1")
    assert codes(results) == [2, 2] and no_traceback(results)
    assert "loop.batch_size: a batch of 1 cannot be divided among 2 processes" in results[0].stderr


def test_a_port_that_is_taken_is_a_message(project):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = project.start_one(0, **together(2) | {"MASTER_PORT": port}).wait()
    assert result.returncode == 2 and no_traceback([result])
    assert "set MASTER_ADDR to rank 0's host, MASTER_PORT to a free port there" in result.stderr


def test_rank_0_alone_reads_and_writes(project, tmp_path):
    """The others need the user's code, and no file of the run: they are in another directory."""
    elsewhere = tmp_path / "elsewhere"
    lay_out(elsewhere)
    (elsewhere / "observed.npy").unlink()
    variables = together(2)
    processes = [project.start_one(0, **variables), project.start_one(1, directory=elsewhere, **variables)]
    assert codes([process.wait() for process in processes]) == [0, 0]
    assert (project.run_dir / "samples/posterior/z.npz").exists()
    written = {path.relative_to(elsewhere).parts[0] for path in elsewhere.rglob("*") if path.is_file()}
    assert written - {"__pycache__"} == {"conf", "simulator.py", "steps-1"}


@pytest.mark.campaign
def test_compiled_steps_are_shared_too_and_what_each_has_compiled_is_kept(project, alone, tmp_path):
    plain = "embedding._target_=torch.nn.Identity"  # to write files is nothing that can be compiled
    results = project.run(2, "loop.compile=true", plain, start=cold_start, TMPDIR=str(tmp_path))
    assert codes(results) == [0, 0], results
    outside = (path for path in tmp_path.rglob("*.so") if not path.is_relative_to(project.directory))
    assert any(project.run_dir.rglob("*.so")) and not any(outside)
    np.testing.assert_allclose(project.losses(), alone.losses(), rtol=1e-3)
