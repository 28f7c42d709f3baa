"""The record of an attempt, and of one that died."""

import json

from framework.rundir.attempts import saved_state
from framework.rundir.directory import RunDirectory, RunRecord
from framework.runtime.lease import Lease, read_lease

RECORD = RunRecord({"name": "a"}, code={}, versions={}, attempts=[])


def make_run(path):
    directory = RunDirectory(path)
    directory.open(RECORD, None, overwrite=False, pinned=False)
    (path / "simulations").mkdir()
    (path / "simulations/0-10.npy").touch()
    return directory


def test_an_attempt_records_its_phases_its_end_and_why(tmp_path):
    attempt = make_run(tmp_path).start_attempt({"job_id": "812"})
    attempt.begin("simulating")
    attempt.begin("training")
    attempt.end("terminated")
    facts = json.loads((tmp_path / "attempts/001.json").read_text())
    assert list(facts["phases"]) == ["simulating", "training"]
    assert facts["start"] <= facts["phases"]["training"] <= facts["end"]
    assert (facts["job_id"], facts["stop_reason"]) == ("812", "terminated")


def test_the_next_attempt_closes_one_that_died(tmp_path):
    directory = make_run(tmp_path)
    directory.start_attempt({})
    directory.start_attempt({}).end("finished")
    facts = [json.loads(path.read_text()) for path in sorted(directory.attempts_dir.iterdir())]
    assert [f["stop_reason"] for f in facts] == ["lost", "finished"]
    assert facts[0]["end"] is not None


def test_a_damaged_record_does_not_stop_the_next_attempt(tmp_path):
    directory = make_run(tmp_path)
    directory.start_attempt({}).path.write_text('{"host": ')
    directory.start_attempt({}).end("finished")
    assert [path.name for path in sorted(directory.attempts_dir.iterdir())] == ["001.json", "002.json"]


def test_a_record_that_is_gone_does_not_cost_another(tmp_path):
    directory = make_run(tmp_path)
    paths = [directory.start_attempt({}).path for _ in range(3)]
    paths[1].unlink()
    assert directory.start_attempt({}).path.name == "004.json"


def test_results_are_those_of_a_checkpoint_and_of_settings(tmp_path):
    directory = make_run(tmp_path)
    config = {"graph": {}, "inference": {"report": True}}
    directory.samples_dir.mkdir()
    attempt = directory.start_attempt({"config": config})
    assert directory.results_of(config) is None
    attempt.record(results_of="00000003")
    attempt.end("finished")
    directory.start_attempt({"config": config}).end("terminated")  # before it came to its results
    assert directory.results_of(config) == "00000003"
    assert directory.results_of({**config, "inference": {}}) is None


def test_damaged_and_half_written_manifests_do_not_hide_what_is_saved(tmp_path):
    checkpoints = tmp_path / "run/checkpoints"
    for name, text in (("00000001", '{"files": {"z/model.pth": {"size": 1}}}'), ("00000002.tmp", '{"files"')):
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "manifest.json").write_text(text)
    assert saved_state(tmp_path / "run")[0] == {"z/model.pth": {"size": 1}}
    (checkpoints / "00000001/manifest.json").write_text("")
    assert saved_state(tmp_path / "run") == [0, 0]


def test_a_lost_run_json_is_written_again_with_the_id_of_the_newest_checkpoint(tmp_path):
    directory = make_run(tmp_path)
    run_id = directory.run_id()
    for name in ("00000001", "00000002"):
        manifest = directory.checkpoints_dir / name / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"run": {"run_id": run_id if name == "00000002" else "another"}}))
    (tmp_path / "run.json").write_text("{")
    assert directory.run_id() == run_id
    assert json.loads((tmp_path / "run.json").read_text())["run_id"] == run_id


def test_overwriting_moves_the_run_aside_but_not_the_lease(tmp_path):
    make_run(tmp_path / "a")
    directory = RunDirectory(tmp_path / "a")
    with Lease(directory.lease_dir) as lease:
        directory.open(RECORD, None, overwrite=True, pinned=False)
        assert (tmp_path / "a.old-1/simulations/0-10.npy").exists()
        assert read_lease(directory.lease_dir).number == lease.number
        assert lease.successor() is None
