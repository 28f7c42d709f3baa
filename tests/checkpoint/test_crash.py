"""Whatever fails while a checkpoint is written, the older or the newer one is whole, and it is said which.

That it is killed, or the power is cut: `tests/faults`.
"""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.checkpoint import CheckpointStore, SaveError
from tests.support.toy_disk import Disk

FACTS = {"nodes": ["z"]}


def files(value):
    """Two files that change with every save and one that does not."""
    return {
        "z/model.pth": {"w": torch.full((1000,), float(value))},
        "z/init.pth": {"w": torch.zeros(1000)},
        "z/checkpoint.json": {"epoch": value},
    }


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch):
    """What is fsynced matters here, not that it takes time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def saved(root):
    """Return the value of the newest whole checkpoint, having checked that its files are of one save."""
    generation = CheckpointStore(root).latest()
    value = generation.load("z/checkpoint.json")["epoch"]
    assert generation.load("z/model.pth")["w"].tolist() == [float(value)] * 1000
    assert generation.load("z/init.pth")["w"].tolist() == [0.0] * 1000
    return value


def start(root):
    """Return a store with three saves and leftovers of an attempt that was killed."""
    store = CheckpointStore(root)
    for value in (1, 2, 3):
        store.commit(files(value), FACTS)
    (root / "00000009.tmp" / "z").mkdir(parents=True)
    (root / "00000009.tmp" / "z" / "model.pth").write_bytes(b"half")
    return store


def commit(tmp_path, fail_at=None, error=errno.EIO, after=False):
    """Commit the fourth save over a failing disk; return the disk and what was raised."""
    store, raised = start(tmp_path), None
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, fail_at, error, after)
        try:
            store.commit(files(4), FACTS)
        except OSError as error:
            raised = error
    return disk, raised


def index_of_rename(tmp_path):
    disk, _ = commit(tmp_path)
    return disk.done.index(("rename", "00000004.tmp"))


def count_operations(tmp_path):
    disk, _ = commit(tmp_path)
    assert {"write", "fsync", "rename", "unlink", "link", "symlink", "mkdir"} <= {name for name, _ in disk.done}
    return len(disk.done)


@pytest.mark.campaign
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_at_any_operation_is_told_or_harmless(tmp_path, number):
    num_operations = count_operations(tmp_path / "all")
    for fail_at in range(num_operations):
        root = tmp_path / str(fail_at)
        _, raised = commit(root, fail_at, error=number)
        assert isinstance(raised, SaveError | None)
        if raised is None or "durability unknown" in str(raised):
            assert saved(root) == 4
        else:
            assert saved(root) == 3
            assert "not saved" in str(raised) and "00000003 is still the newest" in str(raised)
        CheckpointStore(root).commit(files(5), FACTS)
        assert saved(root) == 5


def test_a_failed_fsync_is_never_tried_again_on_the_same_file(tmp_path):
    num_operations = count_operations(tmp_path / "all")
    for fail_at in range(num_operations):
        disk, raised = commit(tmp_path / str(fail_at), fail_at, error=errno.EIO)
        if ("fsync", "failed") in disk.done and "not saved" in str(raised):
            later = [name for name, _ in disk.done[fail_at + 1 :]]
            assert "fsync" not in later and "rename" not in later


def test_an_unsynced_rename_is_called_committed_with_durability_unknown(tmp_path):
    fsync = index_of_rename(tmp_path / "all") + 1
    _, raised = commit(tmp_path / "it", fsync, error=errno.EIO)
    assert "00000004: checkpoint committed, durability unknown" in str(raised)
    assert saved(tmp_path / "it") == 4
    assert (tmp_path / "it" / "00000002").exists(), "nothing older goes before the newer one is certain"


def test_a_rename_that_reports_failure_but_was_done_counts(tmp_path):
    """Over NFS an answer may be lost."""
    _, raised = commit(tmp_path / "it", index_of_rename(tmp_path / "all"), error=errno.EIO, after=True)
    assert raised is None
    assert saved(tmp_path / "it") == 4


def test_a_file_that_may_not_grow_is_told_and_the_older_checkpoint_stays(tmp_path):
    store = start(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SaveError, match=r"not saved \(File too large\), 00000003 is still the newest; .*ulimit"):
            store.commit({"z/model.pth": {"w": torch.zeros(100_000)}}, FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert saved(tmp_path) == 3
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_is_told_and_the_older_checkpoint_stays(tmp_path):
    """On a file system of 1 MB, in a namespace of its own where the machine allows that."""
    script = Path(__file__).parents[1] / "support/toy_checkpoint.py"
    mount = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} {script} full {tmp_path}"
    result = subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True, text=True, env=environment())
    if "unshare" in result.stderr or "mount" in result.stderr:
        pytest.skip(f"no small file system here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert "not saved (No space left on device), 00000002 is still the newest; free some space" in result.stdout


def test_a_directory_that_cannot_be_written_is_told(tmp_path):
    store = CheckpointStore(tmp_path / "file" / "checkpoints")
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match=r"not saved .*there is none yet"):
        store.commit(files(1), FACTS)


def test_a_read_only_directory_is_told(tmp_path):
    store = start(tmp_path)
    with pytest.MonkeyPatch.context() as patch:  # root may write anywhere: the answer of a read-only file system
        Disk(patch, 0, error=errno.EROFS)
        with pytest.raises(SaveError, match=r"not saved \(Read-only file system\), .*make it writable"):
            store.commit(files(4), FACTS)
    assert saved(tmp_path) == 3


def environment():
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


@pytest.mark.campaign
def test_after_kill_9_at_random_moments_nothing_acknowledged_is_lost(tmp_path):
    """200 processes that save without a pause and acknowledge every save are killed at any moment."""
    script = Path(__file__).parents[1] / "support/toy_checkpoint.py"
    command = [sys.executable, script, "kill", tmp_path, "200"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=500)
    assert result.returncode == 0, result.stderr
    assert "kills survived: 200" in result.stdout
