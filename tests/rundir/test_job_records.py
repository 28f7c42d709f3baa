"""The records that launchers leave with runs and sweeps: checked when read, never trusted where damaged."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from framework.errors import UnreadableError
from framework.launcher.jobs import SubmittedJob, known_jobs, write_sweep_file
from framework.records import write_record
from framework.rundir.job_records import (
    EXIT_FILE,
    JOB_FILE,
    SWEEP_FILE,
    ExitRecord,
    JobRecord,
    _warn_once,
    read_exit,
    read_job,
    record_exit,
    write_job,
)
from framework.rundir.run_status import read_run

NONSENSE = ["", "{}", "5", "null", "[1]", "[" * 100_000, '{"a": 1e999}', "\0"]


def test_a_record_is_read_as_it_was_written_and_is_durable(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    write_job(tmp_path / "run", JobRecord("slurm", "7", "a.out"))
    assert read_job(tmp_path / "run") == JobRecord("slurm", "7", "a.out")
    assert {path.stat().st_ino for path in [tmp_path, *tmp_path.rglob("*")]} <= synced


@pytest.mark.parametrize("name", [JOB_FILE, EXIT_FILE, SWEEP_FILE])
@pytest.mark.parametrize("text", NONSENSE)
def test_a_damaged_record_is_reported_and_ignored(tmp_path, name, text, caplog):
    (tmp_path / name).write_text(text)
    _warn_once.cache_clear()
    assert SubmittedJob.recorded(tmp_path, "slurm") is None and known_jobs(tmp_path) == []
    assert read_run(tmp_path).state == "waiting"
    assert f"{name}: damaged" in caplog.text
    record_exit(tmp_path, 1, is_failure=True)
    assert read_run(tmp_path).state == "failed"


def test_one_changed_digit_is_damage(tmp_path):
    record_exit(tmp_path, 1, is_failure=True)
    path = tmp_path / EXIT_FILE
    path.write_text(path.read_text().replace('"num_attempts": 0', '"num_attempts": 7'))
    assert read_exit(tmp_path) is None


def test_records_of_version_02_are_read(tmp_path):
    job = {"launcher": "slurm_local", "job_id": "7", "log": "a.out", "host": "here"}
    (tmp_path / JOB_FILE).write_text(json.dumps(job, indent=1))
    assert read_job(tmp_path) == JobRecord(**job)
    del job["host"]
    (tmp_path / JOB_FILE).write_text(json.dumps(job, indent=1))
    assert read_job(tmp_path) == JobRecord(**job)
    (tmp_path / EXIT_FILE).write_text(json.dumps({"code": 1, "is_failure": True, "num_attempts": 2}))
    assert read_exit(tmp_path) == ExitRecord(1, True, 2)


def test_what_cannot_be_read_now_is_not_taken_for_missing(tmp_path, monkeypatch):
    SubmittedJob(tmp_path, "7", "a.out").record("slurm")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableError, match=r"job\.json: cannot be read now"):
        SubmittedJob.recorded(tmp_path, "slurm")


@pytest.mark.parametrize(
    "change",
    [{"job_id": 7}, {"job_id": "../../etc"}, {"job_id": "--all"}, {"job_id": None}, {"log": 3}, {"launcher": []}],
)
def test_a_job_of_wrong_types_was_not_submitted(tmp_path, change):
    entries = {"launcher": "slurm", "job_id": "7_1", "log": "a.out"}
    write_record(tmp_path / JOB_FILE, entries)
    assert SubmittedJob.recorded(tmp_path, "slurm") == SubmittedJob(tmp_path, "7_1", "a.out")
    write_record(tmp_path / JOB_FILE, entries | change)
    assert SubmittedJob.recorded(tmp_path, "slurm") is None


def planned(directory, name):
    job = SimpleNamespace(run_dir=directory / name, overrides=["seed=1"])
    return SimpleNamespace(job=job, submitted=SubmittedJob(directory / name, "7", "a.out"))


def test_the_jobs_of_all_commands_are_known(tmp_path):
    write_sweep_file(tmp_path, "slurm", [planned(tmp_path, "seed=1")])
    write_sweep_file(tmp_path, "slurm", [planned(tmp_path, "seed=2")])
    assert [Path(job["run_dir"]).name for job in known_jobs(tmp_path)] == ["seed=1", "seed=2"]


@pytest.mark.parametrize(
    "change",
    [{"run_dir": "/etc"}, {"run_dir": "{sweep}/../other"}, {"run_dir": "{sweep}"}, {"run_dir": 5}, {"job_id": []},
     {"log": None}, {"overrides": "seed=1"}, {"overrides": [1]}],
    ids=str,
)  # fmt: skip
def test_what_is_no_job_in_the_sweeps_directory_is_left_out(tmp_path, change, caplog):
    change = {key: v.replace("{sweep}", str(tmp_path)) if isinstance(v, str) else v for key, v in change.items()}
    job = {"run_dir": str(tmp_path / "seed=1"), "overrides": ["seed=1"], "job_id": "7", "log": "a.out"}
    for jobs in ([job, job | change], 5, [5], {"a": 1}):
        write_record(tmp_path / SWEEP_FILE, {"jobs": jobs})
        assert known_jobs(tmp_path) == ([job] if isinstance(jobs, list) and jobs[0] == job else [])
    assert "entries that are not jobs in its directory are ignored" in caplog.text
