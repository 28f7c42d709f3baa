"""How a stopped run asks Slurm for another attempt: recorded answers, replayed by programs on PATH."""

import os
import re
import signal

import pytest

from framework.errors import StuckError
from framework.runtime import Requeuer, StopReason, check_signal_delivery

JOB = {"SLURM_JOB_ID": "7"}
SHOWN = """JobId=7 JobName=two_moons
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   JobState=RUNNING Account=lab QOS=N/A Partition=gpu TimeLimit=04:00:00 PreemptTime=None
   Command=/home/me/job.sh seed=3 loop.num_epochs=9
   WorkDir=/home/me StdErr=/home/me/log StdOut=/home/me/log"""
PREEMPTED = SHOWN.replace("PreemptTime=None", "PreemptTime=2026-11-20T13:12:08")
SCRIPT = "#!/bin/sh\n#SBATCH --signal=USR2@120\nsrun python -m framework.train"
TAKEN = {"show job 7": SHOWN, "requeue 7": ""}


@pytest.fixture
def stop(tmp_path):
    """Return a function that has a run stop, in one job after the other."""

    def stop(reason=StopReason.REQUEUE, mode="auto", environment=JOB, launcher=None, has_progressed=True):
        Requeuer(mode, tmp_path / "stuck", launcher, 99, environment).after(reason, has_progressed)

    return stop


def asked(commands):
    """What was asked for, beside looks at the job."""
    return [call for call in commands.calls() if "show job" not in call and "write batch_script" not in call]


@pytest.mark.parametrize("reason", [StopReason.REQUEUE, StopReason.OUT_OF_TIME])
def test_a_job_that_runs_out_of_time_is_requeued(commands, stop, reason):
    commands("scontrol", TAKEN)
    stop(reason)
    assert asked(commands) == ["scontrol requeue 7"]


def test_of_an_array_only_the_own_task_is_requeued(commands, stop):
    commands("scontrol", {"show job 5_3": SHOWN, "requeue 5_3": ""})
    stop(environment={**JOB, "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"})
    assert asked(commands) == ["scontrol requeue 5_3"]


@pytest.mark.parametrize(
    ("shown", "is_requeued"),
    [
        (SHOWN, False),  # someone has sent it
        (SHOWN.replace("RUNNING", "COMPLETING"), False),
        (SHOWN.replace("RUNNING", "COMPLETING Reason=TimeLimit"), True),
        (PREEMPTED, True),
        (PREEMPTED.replace("RUNNING", "COMPLETING"), False),
        (SHOWN.replace("RUNNING", "PENDING"), False),
    ],
    ids=["sent", "cancelled", "limit", "preempted", "cancelled while preempted", "requeued by hand"],
)
def test_after_sigterm_slurm_tells_whether_the_job_is_wanted_again(commands, stop, shown, is_requeued):
    commands("scontrol", {"show job 7": shown, "requeue 7": ""})
    stop(StopReason.TERMINATED)
    assert asked(commands) == ["scontrol requeue 7"] * is_requeued


@pytest.mark.parametrize(
    "how",
    [
        {"reason": StopReason.INTERRUPTED},
        {"mode": "never"},
        {"environment": {}},
        {"environment": {**JOB, "SLURM_PROCID": "1"}},
    ],
    ids=["interrupted", "never", "no job", "another rank"],
)
def test_otherwise_nothing_is_asked(commands, stop, how):
    commands("scontrol", TAKEN)
    stop(**how)
    assert commands.calls() == []


@pytest.mark.parametrize("reason", [StopReason.REQUEUE, StopReason.OUT_OF_TIME])
@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "CANCELLED"])
def test_a_job_that_is_cancelled_or_requeued_while_it_saves_is_left_so(commands, stop, reason, state):
    commands("scontrol", {**TAKEN, "show job 7": SHOWN.replace("RUNNING", state)})
    stop(reason)
    assert asked(commands) == []


def test_a_job_that_somebody_was_faster_to_requeue_is_not_followed_by_another(commands, stop):
    pending = "echo Job is pending execution for job 7 >&2; exit 1"
    commands("scontrol", script=f"case $1 in show) echo '{SHOWN}';; requeue) {pending};; esac")
    stop()
    assert asked(commands) == ["scontrol requeue 7"]


SLURM = "framework.runtime.schedulers.slurm"
AWAY = {
    "show": "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    "requeue": "Unexpected message received for job 7",  # the word of 22.05 for the same
}


@pytest.mark.parametrize("request_", AWAY)
def test_a_controller_that_restarts_is_asked_until_it_answers(commands, stop, monkeypatch, tmp_path, request_):
    pauses = iter(range(9))
    monkeypatch.setattr(f"{SLURM}.sleep", lambda seconds: next(pauses) == 8 and (tmp_path / "up").touch())
    refuse = f"[ $1 = {request_} ] && [ ! -e {tmp_path}/up ] && {{ echo '{AWAY[request_]}' >&2; exit 1; }}"
    commands("scontrol", script=f"{refuse}\n[ $1 = show ] && echo '{PREEMPTED}'\nexit 0")
    stop(StopReason.TERMINATED)
    assert next(pauses, None) is None
    assert commands.calls()[-1] == "scontrol requeue 7"


def test_a_controller_that_stays_away_is_given_up_after_five_minutes(commands, stop, monkeypatch, caplog):
    moments = iter(range(0, 10_000, 100))
    monkeypatch.setattr(f"{SLURM}.monotonic", lambda: next(moments))
    monkeypatch.setattr(f"{SLURM}.sleep", lambda seconds: None)
    commands("scontrol", script=f"echo '{AWAY['show']}' >&2; exit 1")
    stop(mode="native")
    assert len(asked(commands)) == 4
    assert "Unable to contact slurm controller" in caplog.text


def test_where_requeue_is_forbidden_another_job_follows_with_the_same_script(commands, stop, caplog, tmp_path):
    commands("scontrol", {"show job 7": SHOWN, "write batch_script 7 -": SCRIPT})
    commands(
        "sbatch",
        script=f"for last; do [ -f $last ] && cp $last {tmp_path}/submitted; done; env > {tmp_path}/env; echo 8",
    )
    stop(environment={**JOB, "SLURM_CPUS_PER_TASK": "4"})
    (_, submitted) = asked(commands)
    assert re.sub(r"/\S*/tmp\S+", "FILE", submitted) == (
        "sbatch --parsable --job-name=two_moons --partition=gpu --account=lab --time=04:00:00 --chdir=/home/me "
        "--output=/home/me/log --error=/home/me/log --dependency=afterany:7 --export=ALL,FRAMEWORK_REQUEUED=1 "
        "--open-mode=append FILE seed=3 loop.num_epochs=9"
    )
    assert (tmp_path / "submitted").read_text() == SCRIPT + "\n"
    assert "Job 7 is followed by job 8" in caplog.text


def test_what_is_set_for_one_job_does_not_reach_the_next(commands, stop, monkeypatch, tmp_path):
    environment = {**JOB, "SLURM_CPUS_PER_TASK": "4", "SLURM_CONF": "here", "SBATCH_QOS": "low"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    commands("scontrol", {"show job 7": SHOWN, "write batch_script 7 -": SCRIPT})
    commands("sbatch", script=f"env > {tmp_path}/env")
    stop(mode="chain", environment=os.environ)
    left = re.findall(r"^((?:SLURM|SBATCH)_\w+)=", (tmp_path / "env").read_text(), re.M)
    assert left == ["SLURM_CONF"]


@pytest.mark.parametrize("mode", ["exit_code", "auto"])
def test_where_slurm_cannot_be_asked_the_job_script_is_told_what_to_do(commands, stop, caplog, mode):
    stop(mode=mode)
    assert 'rc=$?; [ $rc -eq 99 ] && scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}' in caplog.text


def test_an_interactive_allocation_is_not_requeued(commands, stop, caplog):
    commands("scontrol", {"show job 7": SHOWN.replace("BatchFlag=1", "BatchFlag=0")})
    stop()
    assert asked(commands) == [] and "resume in another one, with +resume=true" in caplog.text


def test_a_launcher_requeues_its_jobs_itself(commands, stop):
    calls = []
    stop(environment={}, launcher=lambda *arguments: calls.append(arguments))
    assert calls == [(signal.SIGUSR2, None)]


@pytest.mark.parametrize("mode", ["auto", "exit_code"])
def test_where_the_launcher_cannot_requeue_the_job_its_script_does(commands, stop, tmp_path, mode):
    def without_scontrol(number, frame):
        raise FileNotFoundError("scontrol")

    commands("scontrol", {"show job 7": SHOWN})
    stop(mode=mode, launcher=without_scontrol, environment={**JOB, "FRAMEWORK_REQUEUE_FILE": str(tmp_path / "ask")})
    assert (tmp_path / "ask").exists()
    assert asked(commands) == []


def test_two_attempts_in_a_row_without_anything_new_end_the_job(commands, stop):
    commands("scontrol", TAKEN)
    for has_progressed in (False, True, False):
        stop(has_progressed=has_progressed)
    with pytest.raises(StuckError, match="2 attempts in a row ended without a newer checkpoint"):
        stop(has_progressed=False)
    assert len(asked(commands)) == 3
    stop(has_progressed=False)  # someone has given it more time: it counts from the beginning


def test_preemptions_that_leave_no_time_for_anything_are_borne(commands, stop):
    commands("scontrol", {"show job 7": PREEMPTED, "requeue 7": ""})
    for _ in range(5):
        stop(StopReason.TERMINATED, has_progressed=False)
    assert asked(commands) == ["scontrol requeue 7"] * 5


# Signals that do not arrive

STEP = {**JOB, "SLURM_STEP_ID": "0", "SLURM_TASK_PID": "1", "SLURM_PROCID": "0"}
BARE = {**JOB, "SLURM_TASK_PID": "1", "SLURM_PROCID": "0"}
EXEC = {**BARE, "SLURM_TASK_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("environment", "option", "words"),
    [
        (STEP, "--signal=USR2@120", ""),
        (STEP, "--signal=B:USR2@120", "write: #SBATCH --signal=USR2@120"),
        (STEP, "--time=1", ""),
        (BARE, "--signal=USR2@120", "write: srun python"),
        (BARE, "--signal=B:USR2@120", "write: srun python"),
        (EXEC, "--signal=USR2@120", "write: srun python"),
        (EXEC, "--signal=B:USR2@120", ""),
        ({**STEP, "SLURM_PROCID": "1"}, "--signal=B:USR2@120", ""),
        (JOB, "--signal=USR2@120", ""),  # the shell of salloc
        ({}, "--signal=USR2@120", ""),
    ],
    ids=["step", "step B", "step none", "bare", "bare B", "exec", "exec B", "another rank", "salloc", "no job"],
)
def test_a_job_whose_signal_does_not_reach_python_is_told_the_line_to_write(commands, environment, option, words):
    commands("scontrol", {"write batch_script 7 -": f"#!/bin/bash\n#SBATCH {option}\n"})
    said = check_signal_delivery(environment)
    assert words in said and bool(words) == bool(said)


def test_a_script_that_passes_the_signal_on_is_fine(commands):
    script = "#!/bin/bash\n#SBATCH --signal=B:USR2@120\ntrap 'kill -USR2 $pid' USR2\n"
    commands("scontrol", {"write batch_script 7 -": script})
    assert check_signal_delivery(STEP) == ""


def test_a_count_that_a_full_disk_has_left_empty_is_none(commands, stop, tmp_path):
    commands("scontrol", TAKEN)
    (tmp_path / "stuck").write_text("")
    stop(has_progressed=False)
    assert asked(commands) == ["scontrol requeue 7"]
    assert (tmp_path / "stuck").read_text() == "1"


@pytest.mark.parametrize("text", ["many", "²", "-1", "9" * 5000, "1\n1", "\0"])
def test_a_count_that_is_damaged_is_none(commands, stop, tmp_path, text):
    commands("scontrol", TAKEN)
    (tmp_path / "stuck").write_text(text)
    stop(has_progressed=False)
    assert (tmp_path / "stuck").read_text() == "1"


def test_a_count_is_neither_read_nor_written_through_a_link(commands, stop, tmp_path):
    commands("scontrol", TAKEN)
    (tmp_path / "precious").write_text("1")
    (tmp_path / "stuck").symlink_to(tmp_path / "precious")
    stop(has_progressed=False)
    assert (tmp_path / "stuck").read_text() == "1" and not (tmp_path / "stuck").is_symlink()
    assert (tmp_path / "precious").read_text() == "1"


def test_where_the_job_script_cannot_be_told_the_scheduler_is_asked(commands, stop, tmp_path, caplog):
    commands("scontrol", TAKEN)
    (tmp_path / "ask").symlink_to(tmp_path / "elsewhere")
    stop(environment={**JOB, "FRAMEWORK_REQUEUE_FILE": str(tmp_path / "ask")})
    assert not (tmp_path / "elsewhere").exists() and "ask: cannot be created" in caplog.text
    assert asked(commands) == ["scontrol requeue 7"]


def test_a_local_job_is_not_started_again_in_an_allocation_that_is_over(commands, stop):
    commands("scontrol", TAKEN)
    calls = []
    local = {**JOB, "SUBMITIT_EXECUTOR": "local"}
    stop(StopReason.OUT_OF_TIME, environment=local, launcher=lambda *args: calls.append(args))
    assert calls == [] and asked(commands) == []
