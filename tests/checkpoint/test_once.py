"""A file is hashed when it is first read, and again only if it may have changed."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from framework.checkpoint import CheckpointStore, Generation, verified_files
from framework.errors import DamagedError

NAMES = [f"{node}/{name}" for node in "zy" for name in ("model.pth", "model_best.pth", "checkpoint.json")]


def files(value):
    return {name: {"value": value if name.endswith("json") else torch.tensor(value), "of": name} for name in NAMES}


@pytest.fixture
def hashed(monkeypatch):
    """Count how often each file is hashed."""
    counts, true = Counter(), verified_files.digest

    def digest(descriptor):
        counts[str(Path(f"/proc/self/fd/{descriptor}").readlink())] += 1
        return true(descriptor)

    monkeypatch.setattr(verified_files, "digest", digest)
    return counts


def let_timestamps_age(root):
    """Make the files older than any clock's tick: what has just been written may be written again unnoticed."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_000_000_000, 1_000_000_000))


def test_a_resume_that_verifies_and_loads_every_file_hashes_each_once(tmp_path, hashed):
    store = CheckpointStore(tmp_path)
    for value in range(3):
        store.commit(files(value), {"nodes": ["z", "y"]})
    assert not hashed
    let_timestamps_age(tmp_path)
    store = CheckpointStore(tmp_path)
    for _ in range(3):  # each phase asks for the newest
        for name in NAMES:
            assert store.latest().load(name) == {"value": 2, "of": name}
        store.latest().verify()
    assert hashed == {str(tmp_path / "00000003" / name): 1 for name in NAMES}


def test_what_this_process_has_committed_is_not_verified_again(tmp_path, hashed):
    store = CheckpointStore(tmp_path)
    committed = store.commit(files(1), {})
    assert store.latest() is committed
    store.commit(files(2), {})
    assert store.latest() is not committed
    assert not hashed


def test_what_is_carried_over_is_hashed_once_however_many_saves_there_are(tmp_path, hashed):
    store = CheckpointStore(tmp_path)
    for _ in range(2):
        store.commit(files(1), {})
    let_timestamps_age(tmp_path)
    store = CheckpointStore(tmp_path)
    for value in range(6):
        store.commit({"y/checkpoint.json": {"value": value}}, {})
        let_timestamps_age(tmp_path)
    by_inode = Counter(path.partition(str(tmp_path))[2][:9] for path in hashed)
    assert by_inode == {"/00000001": 5, "/00000002": 6}
    assert max(hashed.values()) == 1


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_a_file_that_has_changed_since_is_hashed_again(tmp_path, hashed, change):
    generation = CheckpointStore(tmp_path).commit(files(1), {})
    let_timestamps_age(tmp_path)
    generation = Generation.open(generation.path)
    generation.verify()
    path = generation.path / "z/model.pth"
    data = bytearray(path.read_bytes())
    if change == "inode":
        path.rename(tmp_path / "before")
    if change != "size":
        data[-1] ^= 1
    path.write_bytes(data + (b"x" if change == "size" else b""))
    if change != "time":
        os.utime(path, (1_000_000_000, 1_000_000_000))
    with pytest.raises(DamagedError, match=r"z/model\.pth: damaged"):
        generation.load("z/model.pth")


def test_a_file_that_may_still_be_written_within_a_tick_of_the_clock_is_hashed_again(tmp_path, hashed):
    generation = CheckpointStore(tmp_path).commit(files(1), {})
    path = generation.path / "z/model.pth"
    os.utime(path, (2**32, 2**32))  # the file server's clock may be ahead, too
    for _ in range(2):
        generation.load("z/model.pth")
    assert hashed == {str(path): 2}
