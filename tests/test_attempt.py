"""An attempt: it owns the directory, records what happens, and asks for another attempt if it ends early."""

import pytest

from framework.attempt import Attempt
from framework.errors import ConfigError, ResumeRefusedError
from framework.rundir.attempts import Outcome, read_attempts
from framework.rundir.directory import RunDirectory
from framework.runtime import DistributedContext, Guard, StopReason
from framework.runtime.lease import Lease, read_lease
from tests.support.toy_run import plan

SHOWN = "JobState=RUNNING BatchFlag=1 PreemptTime=None"


@pytest.fixture(autouse=True)
def job(commands, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    commands("scontrol", {"show job 7": SHOWN, "requeue 7": ""})


@pytest.fixture
def attempt(tmp_path):
    """Return a function that makes an attempt in one directory end, with or without newer simulations."""

    def attempt(end, saves=True):
        directory = RunDirectory(tmp_path / "run")
        with Guard() as guard:
            planned = plan(directory, *(["+resume=true"] if directory.holds_work() else []))
            with Attempt(planned, directory, guard, DistributedContext()):
                if saves:
                    directory.simulations_dir.mkdir(exist_ok=True)
                    number = len(list(directory.simulations_dir.glob("*.npy")))
                    (directory.simulations_dir / f"{number}.npy").touch()
                end(guard)
        return directory

    return attempt


def stuck(guard):
    guard.on_stuck(StopReason.OUT_OF_TIME)


def num_requeues(commands):
    return commands.calls().count("scontrol requeue 7")


def test_a_stuck_attempt_is_recorded_gives_up_its_directory_and_has_the_job_requeued(commands, attempt, tmp_path):
    def end(guard):
        stuck(guard)
        assert read_lease(tmp_path / "run/lease").owner.released
        recorded.append(read_attempts(tmp_path / "run").last)

    recorded = []
    attempt(end)
    assert num_requeues(commands) == 1
    assert recorded[0].stop_reason is Outcome.OUT_OF_TIME


def test_two_stuck_attempts_in_a_row_that_saved_nothing_end_the_job_as_failed(commands, attempt, capsys):
    attempt(stuck, saves=False)
    with pytest.raises(SystemExit) as ended:
        attempt(stuck, saves=False)
    assert (ended.value.code, num_requeues(commands)) == (1, 1)
    assert "✗" in (said := capsys.readouterr().err) and "2 attempts in a row ended without a newer checkpoint" in said


def test_stuck_attempts_that_have_saved_something_are_requeued(commands, attempt):
    for _ in range(3):
        attempt(stuck)
    assert num_requeues(commands) == 3


def test_an_attempt_that_breaks_is_recorded_as_crashed_and_gives_the_directory_up(attempt, tmp_path):
    def end(guard):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        attempt(end)
    record = read_attempts(tmp_path / "run").last
    assert record.stop_reason is Outcome.CRASHED and record.lost_seconds > 0
    assert read_lease(tmp_path / "run/lease").owner.released


def test_one_that_never_began_leaves_no_record_and_holds_nothing(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with Guard() as guard, Lease(directory.lease_dir):
        attempt = Attempt(plan(directory), directory, guard, DistributedContext())
        with pytest.raises(ResumeRefusedError, match="in use by"):
            attempt.__enter__()
    assert not directory.attempts().numbers and not directory.config_path.exists()


def test_a_mistake_that_only_the_run_can_find_leaves_no_directory(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with Guard() as guard, pytest.raises(ConfigError, match="tracking"):
        planned = plan(directory, "tracking=wandb", "tracking.wandb.mode=nowhere")
        with Attempt(planned, directory, guard, DistributedContext()) as attempt:
            attempt.run()
    assert not directory.path.exists()


def test_a_stop_ends_the_process_with_its_exit_code_and_asks_for_the_next_attempt(commands, tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path / "run")
    monkeypatch.setattr("framework.attempt.Run.execute", lambda run: StopReason.OUT_OF_TIME)
    with (
        Guard() as guard,
        pytest.raises(SystemExit) as ended,
        Attempt(plan(directory), directory, guard, DistributedContext()) as attempt,
    ):
        attempt.run()
    assert ended.value.code == 99 and num_requeues(commands) == 1
    assert directory.attempts().last.stop_reason is Outcome.OUT_OF_TIME
