"""Starting a run from the files of another."""

import errno
import os
from pathlib import Path

import pytest
import torch

from framework.checkpoint import CheckpointStore
from framework.errors import CheckpointError, ConfigError, ResumeRefusedError, UnreadableError
from framework.rundir.attempts import Outcome
from framework.rundir.begin import begin_run
from framework.rundir.directory import RunDirectory
from framework.rundir.run_config import read_config
from framework.rundir.timestamps import now
from tests.support.toy_run import RECORD, plan, start_attempt


def make_run(path, steps=(1, 2)):
    directory = RunDirectory(path)
    begin_run(directory, RECORD)
    directory.simulations_dir.mkdir()
    (directory.simulations_dir / "0-10.npy").write_text("simulations")
    (path / "metrics.jsonl").write_text("{}\n")
    for step in steps:
        commit(directory, step)
    return directory


def commit(directory, step, emergency=False):
    metadata = {"nodes": ["z"], "run": {"run_id": directory.info().run_id, "saved_at": now()}}
    files = {"z/w.pth": torch.tensor(step), "config.json": {"name": "a"}}
    CheckpointStore(directory.checkpoints_dir).commit(files, metadata, emergency)


def start_from(path, target):
    directory = RunDirectory(target)
    begin_run(directory, RECORD, path, overwrite=False)
    return directory


def step_of(directory):
    return CheckpointStore(directory.checkpoints_dir).latest().load("z/w.pth").item()


def test_a_run_begins_with_all_that_another_has(tmp_path):
    source = make_run(tmp_path / "a")
    target = start_from(source.path, tmp_path / "b")
    assert step_of(target) == 2
    assert (target.path / "metrics.jsonl").exists() and (target.simulations_dir / "0-10.npy").exists()
    assert read_config(target.config_path) == read_config(source.config_path)


def test_a_run_begins_with_the_checkpoint_that_is_named(tmp_path):
    source = make_run(tmp_path / "a")
    assert step_of(start_from(source.checkpoints_dir / "00000001", tmp_path / "b")) == 1
    assert step_of(start_from(source.checkpoints_dir / "latest", tmp_path / "c")) == 2


def test_an_emergency_checkpoint_is_begun_with_where_it_is_named(tmp_path):
    source = make_run(tmp_path / "a")
    commit(source, 3, emergency=True)
    assert step_of(start_from(source.path, tmp_path / "b")) == 2
    assert step_of(start_from(source.checkpoints_dir / "emergency-00000003", tmp_path / "c")) == 3


def test_what_a_killed_attempt_has_copied_in_part_is_completed(tmp_path):
    source = make_run(tmp_path / "a")
    target = start_from(source.path, tmp_path / "b")
    for path in (target.simulations_dir, target.path / "metrics.jsonl"):
        path.rename(path.with_name(f"{path.name}.tmp"))
    target = start_from(source.path, target.path)
    assert (target.path / "metrics.jsonl").exists() and (target.simulations_dir / "0-10.npy").exists()


def test_a_later_attempt_keeps_to_its_own(tmp_path):
    source = make_run(tmp_path / "a")
    target = start_from(source.path, tmp_path / "b")
    start_attempt(target)
    commit(target, 9)
    assert step_of(start_from(source.path, target.path)) == 9


def test_another_run_that_is_here_is_neither_resumed_nor_overwritten(tmp_path):
    source, other = make_run(tmp_path / "a"), make_run(tmp_path / "b", steps=(7,))
    start_attempt(other)
    with pytest.raises(ResumeRefusedError, match=r"b already contains a run that did not start from .*a\."):
        plan(other, f"resume_from={source.path}")
    begin_run(other, RECORD, source.path, overwrite=True)
    assert step_of(other) == 2
    assert step_of(RunDirectory(tmp_path / "b.old-1")) == 7


def test_an_attempt_that_came_to_nothing_does_not_keep_the_next_from_copying(tmp_path):
    source, target = make_run(tmp_path / "a"), RunDirectory(tmp_path / "b")
    start_attempt(target)
    assert step_of(start_from(source.path, target.path)) == 2


@pytest.mark.parametrize(
    ("named", "target", "error", "message"),
    [
        ("a", "a", ConfigError, r"is in the run directory itself; use \+resume=true"),
        ("a/checkpoints/00000001", "a", ConfigError, r"is in the run directory itself; set name="),
        ("nothing", "b", CheckpointError, r"resume_from=.*nothing: contains no run"),
        ("a/checkpoints/00000007", "b", CheckpointError, r"resume_from=.*00000007: contains no run"),
    ],
)
def test_a_run_cannot_begin_with_itself_or_with_nothing(tmp_path, named, target, error, message):
    make_run(tmp_path / "a")
    with pytest.raises(error, match=message):
        plan(RunDirectory(tmp_path / target), f"resume_from={tmp_path / named}")


def test_an_attempt_that_cannot_be_recorded_is_reported(tmp_path, caplog):
    attempt = start_attempt(make_run(tmp_path / "a"))
    attempt.path.parent.rename(tmp_path / "elsewhere")
    attempt.end(Outcome.FINISHED)
    assert "the attempt's progress is not recorded (No such file or directory)" in caplog.text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_simulations_that_cannot_be_listed_are_not_taken_for_none_and_deleted(tmp_path, monkeypatch, number):
    directory = make_run(tmp_path / "run", steps=())
    real = os.listdir

    def listdir(path):
        if Path(path) == directory.simulations_dir:
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(UnreadableError, match=f"simulations: cannot be read now .{os.strerror(number)}"):
        begin_run(directory, RECORD)
    assert (directory.simulations_dir / "0-10.npy").exists()


def test_a_checkpoint_that_cannot_be_looked_at_is_not_taken_for_none(tmp_path, monkeypatch):
    directory = make_run(tmp_path / "run", steps=(1,))
    (directory.simulations_dir / "0-10.npy").unlink()
    real = os.listdir

    def listdir(path):
        if Path(path).name == "00000001":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert directory.holds_work()
