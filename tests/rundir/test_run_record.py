"""What is known of a run whose records are damaged, lost, of the wrong type or another user's."""

import json
import os

import pytest
import xxhash

from framework.errors import CheckpointError, ConfigError, DamagedError
from framework.records import read_record, write_record
from framework.rundir.attempts import attempt_path
from framework.rundir.directory import RunDirectory
from framework.rundir.run_config import read_config, write_config
from framework.rundir.run_status import read_run, read_runs
from tests.support.toy_run import begin, empty_run, open_directory, plan, save_checkpoint, start_attempt

RESUME = "+resume=true"


@pytest.fixture
def run(tmp_path):
    """A run that trains with lr=0.1 and has a checkpoint."""
    run = RunDirectory(tmp_path / "run")
    begin(run, "optimizer.lr=0.1")
    save(run)
    return run


def save(run):
    save_checkpoint(run, {"z": {"epoch": 3, "batch": 0, "finished": False}}, config=run.attempts().last.config)


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def requeued(run, monkeypatch, *overrides):
    monkeypatch.setenv("FRAMEWORK_REQUEUED", "1")
    return plan(run, *overrides)


def test_one_digit_changed_in_an_attempts_record_trains_nothing_with_it(run, monkeypatch):
    change(attempt_path(run.path, 1), '"lr": 0.1', '"lr": 0.9')
    planned = requeued(run, monkeypatch)
    assert planned.config.optimizer["lr"] == 0.1
    assert "attempts/001.json: damaged" in planned.notes[0]
    assert "its config was read from" in planned.notes[1] and "checkpoints/00000001" in planned.notes[1]


def test_without_a_checkpoint_the_first_attempt_is_known_by_config_yaml(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "run")
    begin(run, "optimizer.lr=0.1")
    change(attempt_path(run.path, 1), '"lr": 0.1', '"lr": 0.9')
    assert requeued(run, monkeypatch).config.optimizer["lr"] == 0.1


def test_a_later_attempt_that_nothing_else_knows_is_not_resumed_by_itself(run, monkeypatch):
    begin(run, RESUME, "optimizer.lr=0.2", "resume_allow=[optimizer]")
    attempt_path(run.path, 2).write_text("{}")
    with pytest.raises(CheckpointError, match=r"002\.json: damaged.*resume it yourself, with \+resume=true"):
        requeued(run, monkeypatch)
    monkeypatch.delenv("FRAMEWORK_REQUEUED")
    assert "unknown: compared with the config before it" in plan(run, RESUME, "optimizer.lr=0.1").notes[-1]


def test_a_copied_checkpoint_does_not_have_the_config_of_the_copy(run, tmp_path, monkeypatch):
    other = RunDirectory(tmp_path / "other")
    begin(other, f"resume_from={run.path}", "name=other", "optimizer.lr=0.3", "resume_allow=[optimizer]")
    attempt_path(other.path, 1).write_text("")
    with pytest.raises(CheckpointError, match="resume it yourself"):
        requeued(other, monkeypatch, "name=other")


@pytest.mark.parametrize(
    "content",
    [
        {"start": None},
        {"start": "yesterday"},
        {"start": 5},
        {"phases": [1]},
        {"phases": {"training": None}},
        {"config": []},
        {"overrides": [None]},
        {"overrides": "lr=1"},
        {"job_id": 5},
        {"num_epochs": {"z": "300"}},
        {"stop_reason": "bored"},
        {"lost_seconds": float("inf")},
        {"start_number": 10**400},
    ],
    ids=str,
)
def test_a_record_whose_digest_is_right_and_whose_content_is_not_is_damaged(run, content):
    path = attempt_path(run.path, 1)
    write_record(path, read_record(path) | content)
    (problem,) = run.attempts().problems.values()
    assert isinstance(problem, DamagedError) and "001.json: damaged" in str(problem)
    assert read_run(run.path).problems
    assert plan(run, RESUME, "optimizer.lr=0.1").changes == []


@pytest.mark.parametrize(
    "name", ["0.json", "1.json", "0001.json", "-01.json", "abc.json", "٠٠٣.json", "9" * 40 + ".json"]
)
def test_files_of_other_names_are_no_attempts(run, name):
    (run.attempts_dir / f"{name}.json").write_text("{}")
    assert run.attempts().numbers == [1]


@pytest.mark.parametrize("place", ["directory", "pipe", "link"])
def test_what_is_no_file_in_place_of_a_record_is_damaged(run, tmp_path, place):
    path = attempt_path(run.path, 1)
    path.rename(tmp_path / "elsewhere.json")
    if place == "directory":
        path.mkdir()
    elif place == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere.json")
    assert run.attempts().problem_of_last is not None
    assert plan(run, RESUME, "optimizer.lr=0.1").changes == []


@pytest.mark.parametrize("name", ["attempts", "checkpoints", "simulations", "samples", "report", "lease"])
def test_a_directory_of_the_run_that_is_a_link_is_refused(run, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    if (run.path / name).exists():
        (run.path / name).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (run.path / name).symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=rf"run/{name}: is a link, expected a directory"):
        run.refuse_links()


def test_a_run_directory_that_is_reached_through_a_link_is_like_any_other(run, tmp_path):
    (tmp_path / "scratch").symlink_to(run.path)
    linked = RunDirectory(tmp_path / "scratch")
    linked.refuse_links()
    assert plan(linked, RESUME, "optimizer.lr=0.1").changes == []


@pytest.mark.parametrize("name", [".config.yaml.tmp", ".run.json.tmp", "attempts/.002.json.tmp", ".observed.tmp.npz"])
def test_names_that_were_once_written_to_are_not_followed(run, tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (run.path / name).symlink_to(precious)
    run.config_path.unlink()
    begin(run, RESUME, "optimizer.lr=0.1")
    run.write_arrays({}, {})
    assert precious.read_text() == "precious"


def test_config_yaml_is_read_as_it_was_written_and_never_otherwise(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(path, {"optimizer": {"lr": 0.1}, "name": "naïve"})
    assert read_config(path) == {"optimizer": {"lr": 0.1}, "name": "naïve"}
    for damage in (
        lambda text: text.replace("0.1", "0.2"),
        lambda text: text[:-40],
        lambda text: "",
        lambda text: "\n",
    ):
        write_config(path, {"optimizer": {"lr": 0.1}})
        path.write_text(damage(path.read_text()))
        with pytest.raises(DamagedError, match=r"config\.yaml: modified since the run wrote it"):
            read_config(path)


def test_aliases_which_could_fill_all_memory_are_not_expanded(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_config(path, {})
    bomb = b"a: &a [x, x]\nb: &b [*a, *a]\n"
    monkeypatch.setattr("framework.rundir.run_config._digest", lambda data: b"0" * 32)
    path.write_bytes(bomb + b"# xxh3_128 of the above: %s\n" % (b"0" * 32))
    with pytest.raises(DamagedError, match="it has aliases"):
        read_config(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.jsonl", '{"node": "z", "step": 1, "epoch": 1e999, "best_loss": 1e999}\n'),
        ("metrics.jsonl", '{"node": "z", "step": "1"}\n{}\n5\nnull\n[1]\n'),
        ("metrics.jsonl", "[" * 100_000 + "\n"),
        ("attempts/001.json", "[" * 100_000),
        ("job.json", '{"launcher": "slurm", "job_id": 5}'),
        ("exit.json", "[" * 100_000),
        ("lease/000009.json", "[" * 100_000),
        ("checkpoints/00000001/manifest.json", "[" * 100_000),
        ("checkpoints/00000001/z/checkpoint.json", '{"progress": {"epoch": 1e999}}'),
    ],
)
def test_one_run_never_takes_the_table_down_for_all(run, tmp_path, name, text):
    empty_run(tmp_path / "sound")
    path = run.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    bad, sound = read_runs([tmp_path])
    assert json.dumps([bad.__dict__, sound.__dict__], allow_nan=False)
    assert not sound.problems


def test_numbers_that_no_run_has_are_not_shown(run):
    start_attempt(run, num_epochs={"z": 300})
    (run.path / "metrics.jsonl").write_text('{"node": "z", "step": 9, "epoch": 1e999, "best_loss": 1e999}\n')
    status = read_run(run.path)
    assert (status.epoch, status.best_loss) == (None, None)


def test_an_attempt_that_is_opened_again_has_all_its_records(run):
    run.config_path.unlink()
    run.info_path.write_text("")
    planned = plan(run, RESUME, "optimizer.lr=0.1")
    open_directory(planned, run)
    assert read_config(run.config_path)["optimizer"]["lr"] == 0.1
    assert (run.path / "run.json.damaged").exists()


def as_version_02(run):
    """Rewrite the records as version 0.2 wrote them: without digests, except that of `config.yaml` in `run.json`."""
    text = "".join(run.config_path.read_text().splitlines(keepends=True)[:-1])
    run.config_path.write_text(text)
    info = {key: value for key, value in read_record(run.info_path).items() if key != "resumed_from"}
    digest = xxhash.xxh3_128(text.encode()).hexdigest()
    run.info_path.write_text(json.dumps(info | {"config_digest": digest}))
    path = attempt_path(run.path, 1)
    content = {key: value for key, value in read_record(path).items() if key != "results_of"}
    path.write_text(json.dumps(content))


def test_a_run_of_version_02_is_resumed_as_it_is(run, caplog):
    as_version_02(run)
    before = {path: path.read_bytes() for path in (run.config_path, run.info_path)}
    planned = plan(run, RESUME, "optimizer.lr=0.1")
    assert (planned.changes, planned.notes) == ([], [])
    begin(run, RESUME, "optimizer.lr=0.1")
    assert not [message for message in caplog.messages if message.startswith("⚠")]
    assert {path: path.read_bytes() for path in before} == before


def test_a_changed_config_of_version_02_is_noticed(run):
    as_version_02(run)
    change(run.config_path, "lr: 0.1", "lr: 0.2")
    with pytest.raises(DamagedError, match=r"config\.yaml: modified since the run wrote it"):
        read_config(run.config_path)
