"""Directories that another host has written, which this one sees with a delay."""

import logging
import os
import shutil

import pytest

from framework.rundir.listing import refresh_listings
from tests.support.toy_run import new_run, plan


@pytest.fixture
def run(tmp_path):
    """A run whose link names a second checkpoint, which is not listed yet."""
    run = new_run(tmp_path / "run")
    (run.checkpoints_dir / "latest").unlink()
    (run.checkpoints_dir / "latest").symlink_to("00000002")
    return run


def test_a_checkpoint_that_appears_late_is_waited_for(run, caplog):
    first, late = run.checkpoints_dir / "00000001", run.checkpoints_dir / "00000002.tmp"
    shutil.copytree(first, late)
    appears = logging.Handler()
    appears.emit = lambda record: "waiting for it" in record.getMessage() and late.rename(late.with_suffix(""))
    logging.getLogger("framework.rundir.listing").addHandler(appears)
    refresh_listings(run.path)
    planned = plan(run, "+resume=true")
    logging.getLogger("framework.rundir.listing").removeHandler(appears)
    assert planned.planned_state == ([1], "00000002")
    assert "checkpoints/00000002: the newest checkpoint is not listed; waiting for it" in caplog.text


def test_one_that_never_appears_is_given_up(run, caplog):
    refresh_listings(run.path, patience_seconds=0.2)
    assert "waiting for it" in caplog.text


def test_where_nothing_is_missing_nothing_is_waited_for_or_left_behind(tmp_path, caplog):
    run = new_run(tmp_path / "run")
    before = sorted(run.path.rglob("*"))
    refresh_listings(run.path, patience_seconds=60)
    assert sorted(run.path.rglob("*")) == before
    assert not caplog.messages


def test_each_directory_is_changed_which_makes_an_nfs_client_list_it_again(tmp_path):
    run = new_run(tmp_path / "run")
    os.utime(run.checkpoints_dir, (1, 1))
    refresh_listings(run.path)
    assert run.checkpoints_dir.stat().st_mtime > 1
