"""The record of an attempt, and of one that died."""

import json

from framework.run_directory import RunDirectory, RunRecord
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
    directory.start_attempt({"config": {"graph": {}, "inference": {"report": True}}}).end("finished")
    assert not directory.has_results({"graph": {}, "inference": {}})
    assert len(list(directory.attempts_dir.iterdir())) == 2


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
