"""Damage to data that two checkpoints have in common never loses both: no file is shared, and one repairs the other."""

import itertools
import os

import pytest
import torch

from framework.checkpoint import CheckpointStore, Generation, SaveError
from framework.checkpoint.manifest import generation_paths
from framework.errors import CheckpointError

BEST, FIRST = {"w": torch.arange(5.0)}, {"w": torch.arange(7.0)}
CARRIED = ("z/model.pth", "z/model_best.pth", "z/init_parameters.pth", "z/optimizer.pth", "z/checkpoint.json")


def node(name, value):
    """One node's files, of which two stay as they are while it is trained."""
    return {
        f"{name}/model.pth": {"w": torch.full((3,), float(value))},
        f"{name}/model_best.pth": BEST,
        f"{name}/init_parameters.pth": FIRST,
        f"{name}/optimizer.pth": {"step": torch.full((3,), -float(value))},
        f"{name}/checkpoint.json": {"epoch": value},
    }


def two_nodes(root, keep=2, num_saves=4):
    """Train `z`, then `y`, with several saves each, the last two with another process; return the store."""
    store = CheckpointStore(root, keep)
    for name, value in itertools.product("zy", range(num_saves)):
        if (name, value) == ("y", num_saves - 2):
            store = CheckpointStore(root, keep)
        store.commit(node(name, value), {"nodes": ["z", "y"]})
    return store


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def content(generation):
    return {name: generation.load(name) for name in sorted(generation.files)}


def inodes(path):
    return {file.stat().st_ino for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_no_two_checkpoints_in_a_row_share_a_file(tmp_path, keep):
    paths = generation_paths(two_nodes(tmp_path, keep).root)
    assert len(paths) == keep
    for first, second in itertools.pairwise(paths):
        assert not inodes(first) & inodes(second)
    for first, third in zip(paths, paths[2:], strict=False):
        assert len(inodes(first) & inodes(third)) >= len(CARRIED), "what stays the same is not written each time"


@pytest.mark.parametrize("index", [0, 1], ids=["older", "newer"])
@pytest.mark.parametrize("name", [*CARRIED, "y/init_parameters.pth", "y/model_best.pth"])
def test_a_damaged_file_is_taken_from_the_other_checkpoint_and_said_so_once(tmp_path, caplog, name, index):
    expected = content(two_nodes(tmp_path).latest())
    path = generation_paths(tmp_path)[index]
    damage(path / name)
    damaged = (path / name).read_bytes()
    newest = CheckpointStore(tmp_path).latest()
    assert newest.path == generation_paths(tmp_path)[1]
    assert str(content(newest)) == str(expected)
    helped = CheckpointStore(tmp_path).named(path.name)
    assert helped.load(name) is not None
    named = [record.message for record in caplog.records]
    assert len(named) == 1 + index, "once for each that was opened"
    assert all(f"{path / name}: damaged" in line and "which has the same content" in line for line in named)
    assert (path / name).read_bytes() == damaged, "it is left as it is"


@pytest.mark.parametrize("name", CARRIED)
@pytest.mark.parametrize("index", [0, 1], ids=["older", "newer"])
def test_saving_continues_with_an_intact_copy_of_a_file(tmp_path, name, index):
    expected = content(two_nodes(tmp_path).latest())
    damage(generation_paths(tmp_path)[index] / name)
    store = CheckpointStore(tmp_path)
    store.latest()
    for value in (4, 5, 6):
        store.commit({"y/checkpoint.json": {"epoch": value}}, {})
        for path in generation_paths(tmp_path)[-2:]:
            Generation.open(path).verify()
    newest = content(CheckpointStore(tmp_path).latest())
    assert str({**newest, "y/checkpoint.json": None}) == str({**expected, "y/checkpoint.json": None})
    first, second = generation_paths(tmp_path)
    assert not inodes(first) & inodes(second)
    damage(first / name)
    assert str(CheckpointStore(tmp_path).latest().load(name)) == str(expected[name])


def test_the_one_with_the_intact_copy_is_kept_until_two_others_are_intact(tmp_path):
    two_nodes(tmp_path)
    first, second = generation_paths(tmp_path)
    damage(second / "z/model_best.pth")
    store = CheckpointStore(tmp_path)
    store.latest()
    third = store.commit({"y/checkpoint.json": {"epoch": 9}}, {})
    assert generation_paths(tmp_path) == [first, second, third.path]
    fourth = store.commit({"y/checkpoint.json": {"epoch": 10}}, {})
    assert generation_paths(tmp_path) == [third.path, fourth.path]


def test_a_file_is_taken_from_an_emergency_too_and_from_another_name(tmp_path):
    store = CheckpointStore(tmp_path)
    files = {"z/model.pth": BEST, "z/model_best.pth": BEST, "z/checkpoint.json": {"epoch": 1}}
    newest = store.commit(files, {})
    emergency = store.commit({"z/checkpoint.json": {"epoch": 1}}, {}, emergency=True)
    damage(newest.path / "z/checkpoint.json")
    damage(newest.path / "z/model.pth")
    again = CheckpointStore(tmp_path).latest()
    assert again.load("z/checkpoint.json") == {"epoch": 1}
    damage(emergency.path / "z/model.pth")
    damage(emergency.path / "z/model_best.pth")
    assert torch.equal(CheckpointStore(tmp_path).latest().load("z/model.pth")["w"], BEST["w"])
    damage(newest.path / "z/model_best.pth")
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        CheckpointStore(tmp_path).latest()


def test_a_file_that_only_another_checkpoint_has_whole_is_found_when_it_is_loaded(tmp_path, caplog):
    generation = two_nodes(tmp_path).latest()
    generation.verify()
    (generation.path / "z/model_best.pth").unlink()
    for _ in range(2):
        assert torch.equal(generation.load("z/model_best.pth")["w"], BEST["w"])
    assert len(caplog.records) == 1


def test_what_version_0_2_has_linked_is_not_linked_again(tmp_path):
    store = CheckpointStore(tmp_path)
    first, second = (store.commit(node("z", 1), {}) for _ in range(2))
    for name in first.files:  # as it did
        (second.path / name).unlink()
        os.link(first.path / name, second.path / name)
    store = CheckpointStore(tmp_path, keep=3)
    third = store.commit({"y.json": {}}, {})
    assert not inodes(second.path) & inodes(third.path)


def test_a_damaged_file_is_never_linked(tmp_path):
    store = CheckpointStore(tmp_path, keep=9)
    first = store.commit(node("z", 1), {})
    store.commit(node("z", 1), {})
    damage(first.path / "z/model_best.pth")
    third = store.commit(node("z", 1), {})
    fourth = CheckpointStore(tmp_path, keep=9).commit({"y.json": {}}, {})
    for generation in (third, fourth):
        assert not (generation.path / "z/model_best.pth").samefile(first.path / "z/model_best.pth")
        generation.verify()
    assert (third.path / "z/model.pth").samefile(first.path / "z/model.pth")


def test_what_is_copied_is_hashed_on_the_way(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    newest = store.commit({"z/model_best.pth": BEST}, {})
    expected = newest.files["z/model_best.pth"]["xxh3_128"]
    monkeypatch.setattr(
        "framework.checkpoint.verified_files.digest", lambda descriptor: expected
    )  # it changes after that
    damage(newest.path / "z/model_best.pth")
    with pytest.raises(SaveError, match=r"model_best\.pth: damaged"):
        store.commit({"y.json": {}}, {})
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("tmp")] == []


def test_what_takes_the_place_of_a_file_while_it_is_linked_is_not_kept(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    for _ in range(2):
        store.commit(node("z", 1), {})
    true = os.link

    def swapped(source, target):
        source.unlink()
        source.write_bytes(b"something else")
        true(source, target)

    monkeypatch.setattr(os, "link", swapped)
    third = store.commit(node("z", 1), {})
    third.verify()
    assert all(file.stat().st_nlink == 1 for file in third.path.rglob("*.pth"))
