"""How a stopped run asks PBS for another attempt: what OpenPBS and Torque document, replayed by programs on PATH."""

import json
import os
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from framework.errors import StuckError
from framework.resume.restarted import is_requeued, is_restarted
from framework.rundir.attempts import AttemptRecord, Attempts
from framework.runtime import Requeuer, StopReason
from framework.runtime.lease import LeaseOwner
from framework.runtime.schedulers import job_id, pbs, start_number
from framework.runtime.schedulers.command import CommandResult

HOUR = 3600.0
SCRIPT = "#!/bin/bash\n#PBS -r y\npython -m framework.train runtime.wall_clock_budget=auto $OVERRIDES\n"
REFUSED = "echo qrerun: Unauthorized Request 12.head >&2; exit 159"


@pytest.fixture
def job(tmp_path):
    """The environment of a job in which the script has told where it is."""
    script = tmp_path / "12.head.SC"
    script.write_text(SCRIPT)
    return {
        "PBS_JOBID": "12.head",
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_O_QUEUE": "gpu",
        "PBS_O_WORKDIR": str(tmp_path),
        "FRAMEWORK_JOB_SCRIPT": str(script),
        "OVERRIDES": "seed=3 loop.num_epochs=9",
    }


@pytest.fixture
def stop(tmp_path, job):
    """Return a function that has a run stop, in one job after the other."""

    def stop(reason=StopReason.OUT_OF_TIME, mode="auto", has_progressed=True, **environment):
        Requeuer(mode, tmp_path / "stuck", None, 99, {**job, **environment}).after(reason, has_progressed)

    return stop


@pytest.fixture(autouse=True)
def another_process():
    """A process asks once when its job has started."""
    pbs._start_time.cache_clear()


def shown(job="12.head", started=-60.0, walltime="04:00:00", substate=42, **attributes):
    """Answer as `qstat -f -F json` of a running job."""
    answered = {
        "Job_Name": "two_moons",
        "job_state": "R",
        "substate": substate,
        "Account_Name": "lab",
        "Resource_List": {"ncpus": 4, "nodect": 1, "select": "1:ncpus=4", "place": "free", "walltime": walltime},
        "stime": datetime.fromtimestamp(time.time() + started).strftime("%a %b %d %H:%M:%S %Y"),
        "Variable_List": {"PBS_O_HOME": "/home/me", "OVERRIDES": "seed=3 loop.num_epochs=9", "GONE": "1"},
        **attributes,
    }
    return {f"-f -F json {job}": json.dumps({"Jobs": {job: answered}})}


def asked(commands):
    """What was asked for, beside looks at the job."""
    return [call for call in commands.calls() if not call.startswith("qstat")]


def keep_submission(commands, tmp_path):
    """Let qsub keep what it is given, as it came."""
    commands("qsub", script=f"cat > {tmp_path}/submitted; pwd > {tmp_path}/where; echo 13.head")


def test_the_job_is_rerun_where_the_user_may(commands, stop):
    commands("qstat", shown())
    commands("qrerun", {"12.head": ""})
    stop()
    assert asked(commands) == ["qrerun 12.head"]


def test_users_may_not_in_general_and_another_job_follows_with_the_same_script(commands, stop, caplog, tmp_path):
    commands("qstat", shown())
    commands("qrerun", script=REFUSED)
    keep_submission(commands, tmp_path)
    stop()
    assert asked(commands) == [
        "qrerun 12.head",
        "qsub -N two_moons -q gpu -A lab -l select=1:ncpus=4 -l place=free -l walltime=04:00:00 "
        "-W depend=afterany:12.head -v OVERRIDES,FRAMEWORK_REQUEUED=1",
    ]
    assert (tmp_path / "submitted").read_text() == SCRIPT
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    assert "Job 12.head is followed by job 13.head; the run resumes automatically" in caplog.text


def test_torque_tells_the_same_in_text_and_without_select(commands, stop, tmp_path):
    text = (
        "Job Id: 12.head\n    Job_Name = two_moons\n"
        "    Resource_List.neednodes = 1:ppn=4\n    Resource_List.nodect = 1\n"
        "    Resource_List.nodes = 1:ppn=4\n    Resource_List.walltime = 04:00:00\n"
        "    Variable_List = PBS_O_HOME=/home/me,\n\tOVERRIDES=seed=3 loop.num_epochs=9\n"
    )
    commands("qstat", {"-f 12.head": text})
    keep_submission(commands, tmp_path)
    stop(mode="chain")
    assert asked(commands) == [
        "qsub -N two_moons -q gpu -l nodes=1:ppn=4 -l walltime=04:00:00 "
        "-W depend=afterany:12.head -v OVERRIDES,FRAMEWORK_REQUEUED=1"
    ]


def test_an_element_of_an_array_on_which_no_job_can_depend_is_followed_a_little_later(commands, stop, tmp_path):
    commands("qstat", shown("12[4].head"))
    keep_submission(commands, tmp_path)
    stop(mode="chain", PBS_JOBID="12[4].head", PBS_ARRAY_INDEX="4")
    (submitted,) = asked(commands)
    _, _, options = submitted.partition(" -a ")
    when, _, rest = options.partition(" ")
    assert 60 < datetime.strptime(when, "%Y%m%d%H%M.%S").timestamp() - time.time() <= 120
    assert rest == "-v OVERRIDES,FRAMEWORK_REQUEUED=1,PBS_ARRAY_INDEX=4"
    commands("qstat", shown())
    stop(mode="chain", PBS_ARRAY_INDEX="4")  # the job that followed
    assert asked(commands)[1].endswith(
        " -W depend=afterany:12.head -v OVERRIDES,FRAMEWORK_REQUEUED=1,PBS_ARRAY_INDEX=4"
    )


@pytest.mark.parametrize(
    ("attributes", "is_followed"),
    [({}, False), ({"started": -4 * HOUR}, True), ({"started": -4 * HOUR, "walltime": "08:00:00"}, False)],
    ids=["qdel", "walltime", "walltime raised"],
)
def test_after_sigterm_the_walltime_tells_whether_the_job_is_wanted_again(
    commands, stop, tmp_path, attributes, is_followed
):
    commands("qstat", shown(**attributes))
    commands("qrerun", script=REFUSED)
    keep_submission(commands, tmp_path)
    stop(StopReason.TERMINATED)
    assert (tmp_path / "submitted").exists() == is_followed


def test_a_job_that_the_server_reruns_by_itself_needs_nothing_and_is_not_to_blame(commands, stop, caplog):
    commands("qstat", shown(substate=60))
    for _ in range(3):
        stop(StopReason.TERMINATED, has_progressed=False)
    assert asked(commands) == []
    assert "requeues job 12.head by itself" in caplog.text


def test_a_qrerun_that_answers_only_once_the_job_has_ended_has_been_heard(commands, stop, monkeypatch, tmp_path):
    monkeypatch.setattr(pbs, "REQUEST_SECONDS", 0.3)
    commands("qstat", shown(substate=60))
    commands("qrerun", script="sleep 60")
    assert pbs.Pbs().requeue("12.head") == CommandResult("")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"FRAMEWORK_JOB_SCRIPT": ""}, "in it, before Python, write: export FRAMEWORK_JOB_SCRIPT=PATH (in PBS: $0)"),
        ({"FRAMEWORK_JOB_SCRIPT": "/gone"}, "FRAMEWORK_JOB_SCRIPT=/gone: [Errno 2]"),
        ({"PBS_ENVIRONMENT": "PBS_INTERACTIVE"}, "resume in another one, with +resume=true"),
    ],
    ids=["script unknown", "script gone", "interactive"],
)
def test_where_nothing_can_follow_it_is_said_what_to_write(commands, stop, caplog, environment, words):
    commands("qstat", shown())
    commands("qrerun", script=REFUSED)
    stop(**environment)
    assert words in caplog.text


@pytest.mark.parametrize(("reason", "is_followed"), [(StopReason.OUT_OF_TIME, True), (StopReason.TERMINATED, False)])
def test_without_commands_the_job_script_is_told_what_to_do(commands, stop, job, caplog, tmp_path, reason, is_followed):
    stop(mode="exit_code")
    before, after = caplog.text.splitlines()[-2:]
    path = tmp_path / "12.head.requeue"
    stop(reason, mode="exit_code", FRAMEWORK_REQUEUE_FILE=str(path))
    keep_submission(commands, tmp_path)
    script = tmp_path / "script"
    script.write_text(f"{before}\n(exit 99)\n{after}\n")
    ended = subprocess.run(["/bin/bash", script], env={**job, "PATH": f"{os.environ['PATH']}:/usr/bin:/bin"})
    assert ended.returncode == 99
    assert any("-W depend=afterany:12.head" in call for call in asked(commands)) == is_followed
    assert not path.exists()


def test_two_attempts_in_a_row_without_anything_new_end_the_chain(commands, stop, tmp_path):
    commands("qstat", shown())
    keep_submission(commands, tmp_path)
    stop(mode="chain", has_progressed=False)
    with pytest.raises(StuckError, match="2 attempts in a row"):
        stop(mode="chain", has_progressed=False)
    assert len(asked(commands)) == 1


def test_a_job_that_is_started_again_is_known_by_its_start(commands, job):
    commands("qstat", shown(started=-HOUR))
    last = job_id(job), start_number(job)
    assert not is_restarted(*last, job)
    pbs._start_time.cache_clear()
    commands("qstat", shown(started=-5))
    assert is_restarted(*last, job)
    assert not is_restarted(*last, {**job, "PBS_JOBID": "13.head"})


def test_the_directory_of_a_rerun_job_is_taken_over_at_once(commands, monkeypatch):
    monkeypatch.setenv("PBS_JOBID", "12.head")
    commands("qstat", shown(started=-HOUR))
    before = LeaseOwner(host="far", machine="far")
    assert not before.was_restarted_as(LeaseOwner())  # a second command of the same job
    pbs._start_time.cache_clear()
    commands("qstat", shown(started=-5))
    assert before.was_restarted_as(LeaseOwner())


def test_a_job_that_follows_is_told_to_resume():
    before = Attempts([AttemptRecord(job_id="12.head")], [1], {})
    environment = {"PBS_JOBID": "13.head", "FRAMEWORK_REQUEUED": "1"}
    assert is_requeued(Path("run"), before, environment)
    assert not is_requeued(Path("run"), Attempts([], [], {}), environment)
