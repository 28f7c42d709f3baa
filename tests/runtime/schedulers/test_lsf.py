"""How a stopped run asks LSF for another attempt: what IBM documents, replayed by programs on PATH."""

import re
import time
from datetime import datetime, timedelta

import pytest

from framework.errors import StuckError
from framework.resume.restarted import is_restarted
from framework.runtime import Requeuer, StopReason
from framework.runtime.schedulers import job_id, lsf, start_number

SCRIPT = "#!/bin/bash\n#BSUB -W 4:00\npython -m framework.train runtime.wall_clock_budget=auto $OVERRIDES\n"
TAKEN = {"12": "Job <12> is being requeued"}


@pytest.fixture
def job(tmp_path):
    """The environment of a job whose script has told where it lies."""
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT)
    return {
        "LSB_JOBID": "12",
        "LSB_JOBINDEX": "0",
        "LSB_JOBNAME": "two_moons",
        "LSB_QUEUE": "gpu",
        "LS_SUBCWD": str(tmp_path),
        "FRAMEWORK_JOB_SCRIPT": str(script),
    }


@pytest.fixture
def stop(tmp_path, job, monkeypatch):
    """Return a function that has a run stop, in one job after the other, and tells how long it waits to be killed."""
    waited = []
    monkeypatch.setattr("framework.runtime.requeue.sleep", waited.append)

    def stop(reason=StopReason.REQUEUE, mode="auto", has_progressed=True, **environment):
        Requeuer(mode, tmp_path / "stuck", None, 99, {**job, **environment}).after(reason, has_progressed)
        return sum(waited)

    return stop


@pytest.fixture(autouse=True)
def another_process():
    """A process asks once when its job has started."""
    lsf._start_time.cache_clear()


def shown(started, job="12", form="%a %b %d %H:%M:%S: Started on <hostB>, Execution Home </home/me>;"):
    """Answer as `bjobs -UF` of a running job."""
    when = datetime.fromtimestamp(started)
    lines = [
        f"Job <{job}>, User <me>, Project <default>, Status <RUN>, Queue <gpu>, Command <#!/bin/bash;#BSUB -W 4:00>",
        (when - timedelta(hours=9)).strftime("%a %b %d %H:%M:%S: Submitted from host <hostA>, CWD </home/me>;"),
        when.strftime(form),
    ]
    return {f"-UF {job}": "\n".join(lines)}


@pytest.mark.parametrize("reason", [StopReason.REQUEUE, StopReason.OUT_OF_TIME])
def test_the_job_is_requeued_by_its_owner_and_waits_for_the_kill_that_this_takes(commands, stop, reason):
    commands("brequeue", TAKEN)
    assert stop(reason) == 30
    assert commands.calls() == ["brequeue 12"]


def test_of_an_array_only_the_own_element_is_requeued(commands, stop):
    commands("brequeue", {"12[4]": "Job <12[4]> is being requeued"})
    stop(LSB_JOBINDEX="4")
    assert commands.calls() == ["brequeue 12[4]"]


@pytest.mark.parametrize("reason", [StopReason.INTERRUPTED, StopReason.TERMINATED])
def test_bkill_begins_with_sigint_and_cancels(commands, stop, reason):
    commands("brequeue", TAKEN)
    stop(reason)
    assert commands.calls() == []


@pytest.mark.parametrize(
    ("codes", "is_left"),
    [("99", True), ("30 EXCLUDE(99)", True), ("all ~1", True), ("all ~99", False), ("30 199", False), ("", False)],
)
def test_where_lsf_requeues_for_the_exit_code_nothing_is_asked(commands, stop, codes, is_left):
    commands("brequeue", TAKEN)
    stop(LSB_EXIT_REQUEUE=codes)
    assert commands.calls() == ["brequeue 12"] * (not is_left)


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, "-w ended(12) -q gpu"),
        ({"LSB_JOBINDEX": "4", "LSB_JOBNAME": "two_moons[1-9]%2"}, "-w ended(12[4]) -q gpu -J two_moons[4]"),
    ],
    ids=["job", "array"],
)
def test_a_job_that_follows_gets_the_same_script_and_index(commands, stop, caplog, tmp_path, environment, options):
    commands("bsub", script=f"cat > {tmp_path}/submitted; env > {tmp_path}/env; echo 'Job <13> is submitted to <gpu>.'")
    assert stop(mode="chain", **environment) == 0
    assert commands.calls() == [f"bsub {options}"]
    assert (tmp_path / "submitted").read_text() == SCRIPT
    assert "is followed by job 13; the run resumes automatically" in caplog.text
    left = dict(re.findall(r"^(\w+)=(.*)$", (tmp_path / "env").read_text(), re.M))
    assert (left["FRAMEWORK_REQUEUED"], left["PWD"]) == ("1", str(tmp_path))


def test_what_is_set_for_one_job_does_not_reach_the_next(commands, job, monkeypatch, tmp_path):
    for name, value in {**job, "LSF_ENVDIR": "/etc/lsf", "OVERRIDES": "seed=3"}.items():
        monkeypatch.setenv(name, value)
    commands("bsub", script=f"env > {tmp_path}/env; echo 'Job <13> is submitted to <gpu>.'")
    assert lsf.Lsf().submit_successor("12", {**job}).text == "13"
    left = re.findall(r"^(LS\w+|OVERRIDES)=", (tmp_path / "env").read_text(), re.M)
    assert sorted(left) == ["LSF_ENVDIR", "LS_SUBCWD", "OVERRIDES"]


def test_an_interactive_job_is_not_requeued(commands, stop, caplog):
    commands("brequeue", TAKEN)
    stop(LSB_INTERACTIVE="Y")
    assert commands.calls() == [] and "resume in another one, with +resume=true" in caplog.text


def test_without_commands_the_job_script_is_told_what_to_do(commands, stop, caplog):
    stop()
    assert 'needs #BSUB -Q "99"' in caplog.text


def test_two_attempts_in_a_row_without_anything_new_end_the_job(commands, stop):
    commands("brequeue", TAKEN)
    stop(has_progressed=False)
    with pytest.raises(StuckError, match="2 attempts in a row"):
        stop(has_progressed=False)
    assert commands.calls() == ["brequeue 12"]


@pytest.mark.parametrize(
    "form",
    [
        "%a %b %d %H:%M:%S: Started on <hostB>, Execution Home </home/me>;",
        "%a %b %d %H:%M:%S: Started 1 Task(s) on Host(s) <hostB>, Allocated 1 Slot(s) on Host(s) <hostB>;",
        "%a %b %d %H:%M:%S %Y: [4] started on <hostB>;",
    ],
    ids=["LSF 9", "LSF 10", "array"],
)
def test_a_job_that_is_started_again_is_known_by_its_start(commands, job, form):
    began = int(time.time()) - 3600
    commands("bjobs", shown(began, form=form))
    last = job_id(job), start_number(job)
    assert last == ("12", began)
    assert not is_restarted(*last, job)
    lsf._start_time.cache_clear()
    commands("bjobs", shown(began + 3000, form=form))
    assert is_restarted(*last, job)


def test_without_bjobs_a_job_whose_host_has_failed_is_known_by_the_environment(commands, job):
    assert is_restarted("12", 0, {**job, "LSB_RESTART": "Y"})
    assert not is_restarted("12", 0, job)


def test_a_start_in_december_is_not_in_the_future_of_january(commands, job):
    soon = (datetime.now() + timedelta(days=45)).replace(day=15)  # as the year is read
    commands("bjobs", shown(soon.timestamp()))
    assert 300 < (time.time() - start_number(job)) / 86400 < 340
