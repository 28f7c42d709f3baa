"""How the next attempt is asked for: by the main thread once all is saved, or by the guard's while that is stuck."""

import json

import pytest

from framework.config.schema import RuntimeConfig
from framework.resume.next_attempt import NextAttempt
from framework.rundir.directory import RunDirectory
from framework.runtime import Guard, StopReason
from framework.runtime.lease import Lease, read_lease

SHOWN = "JobState=RUNNING BatchFlag=1 PreemptTime=None"


@pytest.fixture(autouse=True)
def job(commands, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    commands("scontrol", {"show job 7": SHOWN, "requeue 7": ""})


@pytest.fixture
def attempt(tmp_path):
    """Return a function that makes an attempt in one directory end, with or without a newer checkpoint."""

    def attempt(end, saves=True):
        directory = RunDirectory(tmp_path / "run")
        with Guard() as guard, Lease(directory.lease_dir) as lease:
            following = NextAttempt(directory, RuntimeConfig(), guard, lease)
            following.attempt = directory.start_attempt({"overrides": []})
            if saves:
                directory.simulations_dir.mkdir(exist_ok=True)
                number = len(list(directory.simulations_dir.iterdir()))
                (directory.simulations_dir / f"{number}.npy").touch()
            end(guard, following)
        return directory

    return attempt


def stuck(guard, following):
    guard.on_stuck(StopReason.OUT_OF_TIME)


def num_requeues(commands):
    return commands.calls().count("scontrol requeue 7")


def test_a_stuck_attempt_is_recorded_gives_up_its_directory_and_has_the_job_requeued(commands, attempt):
    def end(guard, following):
        stuck(guard, following)
        assert read_lease(directory_of(following) / "lease").owner.released

    directory = attempt(end)
    assert num_requeues(commands) == 1
    assert json.loads((directory.attempts_dir / "001.json").read_text())["stop_reason"] == "out_of_time"


def directory_of(following):
    return following.attempt.path.parents[1]


def test_a_main_thread_that_is_free_again_does_not_ask_a_second_time(commands, attempt):
    def end(guard, following):
        stuck(guard, following)
        following.ask(StopReason.OUT_OF_TIME)

    attempt(end)
    assert num_requeues(commands) == 1


def test_two_stuck_attempts_in_a_row_that_saved_nothing_end_the_job_as_failed(commands, attempt, capsys):
    attempt(stuck, saves=False)
    with pytest.raises(SystemExit) as ended:
        attempt(stuck, saves=False)
    assert (ended.value.code, num_requeues(commands)) == (1, 1)
    assert "✗" in (said := capsys.readouterr().err) and "2 attempts in a row ended without a newer checkpoint" in said


def test_stuck_attempts_that_have_saved_something_go_on(commands, attempt):
    for _ in range(3):
        attempt(stuck)
    assert num_requeues(commands) == 3
