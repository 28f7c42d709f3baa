"""When the allocation ends: recorded answers of each scheduler, replayed by programs on PATH."""

import json
import logging
import os
import time
from datetime import datetime

import pytest

from framework.runtime.budget import BudgetReader, process_start
from framework.runtime.schedulers import command

HOUR = 3600.0


def budget(environment, wall_clock_budget="auto", **options):
    return BudgetReader(wall_clock_budget, environment).read(**options)


def left(found):
    return found.end - time.time()


def local(seconds_from_now, form="%Y-%m-%dT%H:%M:%S"):
    return datetime.fromtimestamp(time.time() + seconds_from_now).strftime(form)


def unix(seconds_from_now):
    return str(int(time.time() + seconds_from_now))


def near(seconds, tolerance=5):
    return pytest.approx(seconds, abs=tolerance)


# Slurm


def test_slurm_gives_the_end_in_the_environment_without_a_command(commands):
    commands("squeue", {})
    found = budget({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": unix(HOUR), "SLURM_JOB_START_TIME": unix(-HOUR)})
    assert (found.source, left(found), found.seconds) == ("SLURM_JOB_END_TIME", near(HOUR), near(2 * HOUR))
    assert not commands.calls()


def test_before_slurm_23_02_squeue_gives_the_end_in_local_time(commands):
    commands("squeue", {"-h -j 7 -O EndTime": local(HOUR) + " "})
    found = budget({"SLURM_JOB_ID": "7"})
    assert (found.source, left(found)) == ("squeue", near(HOUR))


def test_an_array_task_asks_for_itself_alone(commands):
    commands("squeue", {"-h -j 5_3 -O EndTime": local(HOUR)})
    found = budget({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"})
    assert left(found) == near(HOUR)


@pytest.mark.parametrize("answer", ["NOT_SET", "UNLIMITED", "N/A", ""])
def test_no_limit_is_no_budget_and_no_warning(commands, caplog, answer):
    commands("squeue", {"-h -j 7 -O EndTime": answer})
    assert budget({"SLURM_JOB_ID": "7"}) is None
    assert not caplog.records


def test_an_administrators_change_is_seen_although_the_environment_is_frozen(commands):
    commands("squeue", {"-h -j 7 -O EndTime": local(3 * HOUR)})
    found = budget({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": unix(HOUR)}, fresh=True)
    assert (found.source, left(found)) == ("squeue", near(3 * HOUR))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (unix(-60), "is in the past"),
        ("0", "is in the past"),
        ("99999999999", "is too far in the future"),
        ("soon", "'soon' is not a time"),
        ("nan", "is not a time"),
    ],
    ids=["past", "zero", "late", "word", "nan"],  # the time itself differs between the processes of a test run
)
def test_what_cannot_be_true_is_refused_once_with_its_name_and_the_next_source_is_asked(commands, caplog, value, words):
    commands("squeue", {"-h -j 7 -O EndTime": local(HOUR)})
    reader = BudgetReader("auto", {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": value})
    assert reader.read().source == "squeue"
    assert reader.read().source == "squeue"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "SLURM_JOB_END_TIME" in record.message and value in record.message and words in record.message


def test_a_command_that_hangs_is_given_up_with_its_children(commands, caplog, monkeypatch):
    monkeypatch.setattr(command, "QUERY_SECONDS", 0.2)
    commands("squeue", script="sleep 60")
    assert budget({"SLURM_JOB_ID": "7"}) is None
    assert "squeue did not answer within 0.2 s" in caplog.text


def test_a_command_that_is_missing_or_fails_is_said(commands, caplog, monkeypatch):
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(":")[0])  # this machine may have Slurm itself
    assert budget({"SLURM_JOB_ID": "7"}) is None
    assert "squeue cannot be run (No such file or directory)" in caplog.text
    commands("squeue", script="echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    assert budget({"SLURM_JOB_ID": "7"}) is None
    assert "squeue failed with exit code 1" in caplog.text


def test_garbage_of_a_command_is_refused(commands, caplog):
    commands("squeue", {"-h -j 7 -O EndTime": "slurm_load_jobs: Socket timed out"})
    assert budget({"SLURM_JOB_ID": "7"}) is None
    assert "squeue: 'slurm_load_jobs: Socket timed out' is not a time" in caplog.text


# PBS


def openpbs(**attributes):
    return json.dumps({"timestamp": 1, "pbs_version": "23.06", "Jobs": {"12.head": attributes}}, indent=4)


def torque(lines):
    return "Job Id: 12.head\n" + "".join(f"    {line}\n" for line in lines)


DATE = "%a %b %d %H:%M:%S %Y"


def test_torque_gives_the_walltime_and_qstat_the_start(commands):
    text = torque(
        [f"start_time = {local(-600, DATE)}", "Resource_List.walltime = 02:00:00", "Walltime.Remaining = 6600"]
    )
    commands("qstat", {"-f 12.head": text})
    found = budget({"PBS_JOBID": "12.head", "PBS_WALLTIME": "7200"})
    assert (found.source, left(found)) == ("PBS_WALLTIME", near(6600))


def test_openpbs_gives_the_limit_and_the_use(commands):
    answer = openpbs(Resource_List={"ncpus": 2, "walltime": "02:00:00"}, resources_used={"walltime": "00:30:00"})
    commands("qstat", {"-f -F json 12.head": answer})
    found = budget({"PBS_JOBID": "12.head"})
    assert (found.source, left(found)) == ("qstat", near(5400))


def test_openpbs_at_the_start_gives_the_limit_and_the_start(commands):
    answer = openpbs(Resource_List={"walltime": "30:00:00"}, stime=local(-60, DATE))
    commands("qstat", {"-f -F json 12.head": answer})
    assert left(budget({"PBS_JOBID": "12.head"})) == near(30 * HOUR - 60)


def test_a_use_that_is_out_of_date_does_not_make_the_end_later(commands):
    used = {"walltime": "00:00:00"}  # as the MOM last reported it
    answer = openpbs(Resource_List={"walltime": "01:00:00"}, resources_used=used, stime=local(-600, DATE))
    commands("qstat", {"-f -F json 12.head": answer})
    assert left(budget({"PBS_JOBID": "12.head"})) == near(3000)


def test_broken_json_falls_back_to_text(commands):
    text = torque(
        ["resources_used.walltime = 00:10:00", "Variable_List = A=1,\n\tB=2", "Resource_List.walltime = 01:00:00"]
    )
    commands("qstat", {"-f -F json 12.head": '{"Jobs": {"12.head": {"comment": "a "quote""', "-f 12.head": text})
    assert left(budget({"PBS_JOBID": "12.head"})) == near(3000)


def test_torque_without_qstat_counts_from_the_process_and_says_so(commands, caplog):
    found = budget({"PBS_JOBID": "12.head", "PBS_WALLTIME": "7200"})
    assert (found.source, found.seconds) == ("PBS_WALLTIME, since this process's start", near(7200))
    assert "qstat cannot be run" in caplog.text


@pytest.mark.parametrize(
    "answer", ["[]", '{"Jobs": {}}', '{"Jobs": {"12.head": {"Resource_List": {"walltime": "long"}}}}']
)
def test_strange_answers_of_qstat_are_no_budget(commands, answer):
    commands("qstat", {"-f -F json 12.head": answer, "-f 12.head": ""})
    assert budget({"PBS_JOBID": "12.head"}) is None


# LSF

WL = "12 user RUN normal host1 4*host2 train {submitted} {left}"


def test_lsf_gives_the_run_limit(commands):
    commands("bjobs", {"-noheader -WL 12": WL.format(submitted="Nov 20 08:35", left="1:58 L")})
    found = budget({"LSB_JOBID": "12", "LSB_JOBINDEX": "0"})
    assert (found.source, left(found)) == ("bjobs", near(118 * 60))


@pytest.mark.parametrize(("answer", "seconds"), [("2:30 L", 9000), ("0:10:30 L", 630)])
def test_lsf_without_wl_is_asked_for_the_time_left(commands, answer, seconds):
    commands("bjobs", {"-noheader -o time_left 12[4]": answer})
    assert left(budget({"LSB_JOBID": "12", "LSB_JOBINDEX": "4"})) == near(seconds)


@pytest.mark.parametrize("answer", ["1:58 E", "0:00 X", "-"])
def test_an_estimate_of_lsf_is_no_bound(commands, caplog, answer):
    commands(
        "bjobs",
        {"-noheader -WL 12": WL.format(submitted="Nov 20 08:35", left=answer), "-noheader -o time_left 12": answer},
    )
    assert budget({"LSB_JOBID": "12"}) is None
    assert not caplog.records


def test_pend_time_counts_only_as_a_plausible_end(commands, caplog):
    commands("bjobs", script="exit 1")
    found = budget({"LSB_JOBID": "12", "LSB_JOB_PEND_TIME": unix(HOUR)})
    assert (found.source, left(found)) == ("LSB_JOB_PEND_TIME", near(HOUR))
    for value in ("120", unix(-HOUR), unix(61 * 24 * HOUR), "soon", ""):
        assert budget({"LSB_JOBID": "12", "LSB_JOB_PEND_TIME": value}) is None


def test_the_run_limit_goes_before_the_pend_time(commands):
    commands("bjobs", {"-noheader -WL 12": WL.format(submitted="Nov 20 08:35", left="0:30 L")})
    assert budget({"LSB_JOBID": "12", "LSB_JOB_PEND_TIME": unix(HOUR)}).source == "bjobs"


# Flux, and no scheduler


def test_flux_gives_the_time_left(commands):
    commands("flux", {"job timeleft": "1799"})
    found = budget({"FLUX_JOB_ID": "f7"})
    assert (found.source, left(found)) == ("flux job timeleft", near(1799))


def test_flux_without_a_limit_is_no_budget(commands, caplog):
    commands("flux", {"job timeleft": "inf"})
    assert budget({"FLUX_JOB_ID": "f7"}) is None
    assert not caplog.records


def test_outside_of_a_job_nothing_is_asked_and_there_is_no_budget(commands):
    for name in ("squeue", "qstat", "bjobs", "flux"):
        commands(name, {})
    assert budget({}) is None
    assert not commands.calls()


# A duration


def test_a_duration_counts_from_the_start_of_the_allocation(commands):
    found = budget({"SLURM_JOB_ID": "7", "SLURM_JOB_START_TIME": unix(-600)}, HOUR)
    assert (left(found), found.seconds) == (near(3000), HOUR)
    commands("squeue", {"-h -j 7 -O StartTime": local(-1200)})
    assert left(budget({"SLURM_JOB_ID": "7"}, HOUR)) == near(2400)
    commands("bjobs", {"-noheader -o run_time 12": "1800 second(s)"})
    assert left(budget({"LSB_JOBID": "12"}, HOUR)) == near(1800)
    commands("flux", {"jobs -n -o {t_run} f7": unix(-60) + ".5"})
    assert left(budget({"FLUX_JOB_ID": "f7"}, HOUR)) == near(3540)
    commands("qstat", {"-f -F json 12.head": openpbs(stime=local(-300, DATE))})
    assert left(budget({"PBS_JOBID": "12.head"}, HOUR)) == near(3300)


def test_elsewhere_a_duration_counts_from_the_start_of_the_process():
    found = budget({}, HOUR)
    assert found.start == near(process_start(), 1) and found.seconds == HOUR
    assert found.source == "your setting, counted from the start of this process"


def test_a_duration_may_be_written_as_people_do():
    assert BudgetReader("23h30m", {}).read().seconds == 23.5 * HOUR
    with pytest.raises(ValueError, match=r"expected a duration such as .*, got 'soon'"):
        BudgetReader("soon")


def test_a_duration_that_is_over_already_is_refused(caplog):
    reader = BudgetReader(60.0, {"SLURM_JOB_START_TIME": unix(-600)})
    assert reader.read() is None
    assert "is in the past" in caplog.text
    assert "off (refused" in reader.describe(None, 0)


# What a run says of it


def test_the_start_line_names_the_budget_its_source_and_the_save():
    reader = BudgetReader("auto", {"SLURM_JOB_END_TIME": unix(24 * HOUR - 120), "SLURM_JOB_START_TIME": unix(-60)})
    assert reader.describe(reader.read(), 300) == (
        "⏱ Wall-clock budget: 23h59m (from SLURM_JOB_END_TIME) — will checkpoint at 23h54m"
    )


@pytest.mark.parametrize(
    ("value", "words"), [(None, "off (runtime.wall_clock_budget=auto"), ("auto", "off (no scheduler")]
)
def test_the_start_line_says_when_there_is_no_budget(value, words):
    reader = BudgetReader(value, {})
    assert words in reader.describe(reader.read(), 0)


def test_the_start_line_names_the_configured_setting():
    assert "(--budget=auto asks the scheduler" in BudgetReader(None, setting="--budget").describe(None, 0)


def test_the_process_started_a_moment_ago():
    assert 0 <= time.time() - process_start() < 6 * HOUR
