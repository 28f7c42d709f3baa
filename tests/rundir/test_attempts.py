"""The record of an attempt, also of one that was killed."""

import errno
import json
import os
from pathlib import Path

import pytest

from framework.errors import UnreadableError
from framework.rundir.attempts import Outcome
from framework.rundir.begin import begin_run
from framework.rundir.directory import RunDirectory
from framework.rundir.saved_work import saved_state
from framework.runtime.lease import Lease, read_lease
from tests.support.toy_run import RECORD, save_checkpoint, start_attempt


def make_run(path):
    directory = RunDirectory(path)
    begin_run(directory, RECORD)
    (path / "simulations").mkdir()
    (path / "simulations/0-10.npy").touch()
    return directory


def test_an_attempt_records_its_phases_its_end_and_why(tmp_path):
    attempt = start_attempt(make_run(tmp_path), **{"job_id": "812"})
    attempt.begin("simulating")
    attempt.begin("training")
    attempt.end(Outcome.TERMINATED)
    entries = json.loads((tmp_path / "attempts/001.json").read_text())
    assert list(entries["phases"]) == ["simulating", "training"]
    assert entries["start"] <= entries["phases"]["training"] <= entries["end"]
    assert (entries["job_id"], entries["stop_reason"]) == ("812", "terminated")


def test_the_next_attempt_closes_one_that_died(tmp_path):
    directory = make_run(tmp_path)
    start_attempt(directory)
    start_attempt(directory).end(Outcome.FINISHED)
    entries = [json.loads(path.read_text()) for path in sorted(directory.attempts_dir.iterdir())]
    assert [f["stop_reason"] for f in entries] == ["lost", "finished"]
    assert entries[0]["end"] is not None


def test_a_damaged_record_does_not_stop_the_next_attempt(tmp_path):
    directory = make_run(tmp_path)
    start_attempt(directory).path.write_text('{"host": ')
    start_attempt(directory).end(Outcome.FINISHED)
    assert [path.name for path in sorted(directory.attempts_dir.iterdir())] == ["001.json", "002.json"]


def test_a_record_that_is_gone_does_not_cost_another(tmp_path):
    directory = make_run(tmp_path)
    paths = [start_attempt(directory).path for _ in range(3)]
    paths[1].unlink()
    assert start_attempt(directory).path.name == "004.json"


def test_results_are_those_of_a_checkpoint_and_of_settings(tmp_path):
    directory = make_run(tmp_path)
    config = {"graph": {}, "inference": {"report": True}}
    directory.samples_dir.mkdir()
    attempt = start_attempt(directory, **{"config": config})
    assert directory.results_of(config) is None
    attempt.record_results("00000003")
    attempt.end(Outcome.FINISHED)
    start_attempt(directory, **{"config": config}).end(Outcome.TERMINATED)  # before it has results
    assert directory.results_of(config) == "00000003"
    assert directory.results_of({**config, "inference": {}}) is None


def test_damaged_and_half_written_manifests_do_not_hide_what_is_saved(tmp_path):
    directory = make_run(tmp_path / "run")
    generation = save_checkpoint(directory, {"z": {"epoch": 1}})
    weights, *others = saved_state(directory.path)
    assert weights == {} and others == [1, 0]  # no weights, a shard, no samples
    (directory.checkpoints_dir / "00000002.tmp").mkdir()
    assert saved_state(directory.path) == [weights, *others]
    (generation / "manifest.json").write_text("")
    assert saved_state(directory.path) == [{}, *others]


@pytest.mark.parametrize("damage", ["{", "", "[" * 100_000, None, '{"run_id": "other"}'])
def test_a_lost_run_json_is_written_again_with_the_id_of_the_newest_checkpoint(tmp_path, damage, caplog):
    directory = make_run(tmp_path)
    run_id = directory.info().run_id
    save_checkpoint(directory, {"z": {"epoch": 1}})
    if damage is None:
        directory.info_path.unlink()
    else:
        directory.info_path.write_text(damage)
    assert directory.info().run_id == run_id
    begin_run(directory, RECORD)
    assert json.loads(directory.info_path.read_text())["run_id"] == run_id
    assert "run.json" in caplog.text and "rewritten from the newest checkpoint" in caplog.text


def test_a_run_json_that_cannot_be_read_now_is_left_as_it_is(tmp_path, monkeypatch):
    directory = make_run(tmp_path)
    before, opened = directory.info_path.read_text(), os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("run.json"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(UnreadableError, match=r"run\.json: cannot be read now"):
        patch.setattr(os, "open", refuse)
        begin_run(directory, RECORD)
    assert directory.info_path.read_text() == before


def test_overwriting_moves_the_run_aside_but_not_the_lease(tmp_path):
    make_run(tmp_path / "a")
    directory = RunDirectory(tmp_path / "a")
    with Lease(directory.lease_dir) as lease:
        begin_run(directory, RECORD, None, overwrite=True)
        assert (tmp_path / "a.old-1/simulations/0-10.npy").exists()
        assert read_lease(directory.lease_dir).number == lease.number
        assert lease.successor() is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_attempts_that_cannot_be_listed_now_are_not_taken_for_none(tmp_path, monkeypatch, number):
    directory = make_run(tmp_path / "run")
    start_attempt(directory)
    real = os.listdir

    def listdir(path):
        if Path(path) == directory.attempts_dir:
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(UnreadableError, match=rf"attempts: cannot be read now \({os.strerror(number)}\)"):
        directory.attempts()
