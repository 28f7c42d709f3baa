"""Generations on disk: whole or not at all, checked when read, the older ones kept until then."""

import json
import os
import random

import numpy as np
import pytest
import torch

from framework.checkpoint import CheckpointStore, RandomState, load_all
from framework.errors import CheckpointError


def files(value):
    return {"z/model.pth": {"w": torch.full((3,), float(value))}, "z/checkpoint.json": {"epoch": value}}


def test_what_is_committed_is_read_back(tmp_path):
    CheckpointStore(tmp_path).commit(files(1), {"nodes": ["z"]})
    newest = CheckpointStore(tmp_path).latest()
    assert newest.manifest["nodes"] == ["z"]
    assert newest.load("z/checkpoint.json") == {"epoch": 1}
    assert newest.load("z/model.pth")["w"].tolist() == [1.0, 1.0, 1.0]


def test_the_newest_generations_are_kept_and_latest_points_at_the_last(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for value in range(4):
        store.commit(files(value), {})
    assert [g.load("z/checkpoint.json")["epoch"] for g in store.generations()] == [2, 3]
    assert (tmp_path / "latest").resolve() == store.latest().path
    assert len(list(tmp_path.iterdir())) == 3


def test_files_of_other_nodes_are_carried_over_without_being_written_again(tmp_path):
    store = CheckpointStore(tmp_path)
    first = store.commit(files(1), {})
    second = store.commit({"y/checkpoint.json": {"epoch": 5}}, {})
    assert second.files.keys() == {"y/checkpoint.json", "z/checkpoint.json", "z/model.pth"}
    assert (first.path / "z/model.pth").samefile(second.path / "z/model.pth")


def test_a_generation_without_its_manifest_does_not_count(tmp_path):
    store = CheckpointStore(tmp_path)
    store.commit(files(1), {})
    (tmp_path / "00000002.tmp" / "z").mkdir(parents=True)
    (tmp_path / "00000003").mkdir()
    assert store.latest().path.name == "00000001"
    assert store.commit(files(2), {}).load("z/checkpoint.json") == {"epoch": 2}


@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_file_is_noticed(tmp_path, damage):
    generation = CheckpointStore(tmp_path).commit(files(1), {})
    path = generation.path / "z/model.pth"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"model\.pth: damaged"):
        generation.load("z/model.pth")


def test_a_failed_write_leaves_the_older_generation(tmp_path):
    store = CheckpointStore(tmp_path)
    store.commit(files(1), {})
    with pytest.raises(TypeError):
        store.commit({"z/model.pth": {}, "z/checkpoint.json": {"epoch": object()}}, {})
    assert store.latest().load("z/checkpoint.json") == {"epoch": 1}


def test_a_checkpoint_can_run_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    generation = CheckpointStore(tmp_path / "store").commit({"z/model.pth": {"w": Bomb()}}, {})
    with pytest.raises(Exception, match=r"[Ww]eights"):
        generation.load("z/model.pth")
    assert not (tmp_path / "boom").exists()


def test_random_generators_go_on_where_they_were():
    state = json.loads(json.dumps(RandomState().state_dict()))
    expected = random.random(), np.random.rand(), torch.rand(3).tolist()
    RandomState().load_state_dict(state)
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == expected


@pytest.mark.parametrize("states", [{"a": {}}, {"a": {}, "b": {}, "c": {}}])
def test_a_missing_or_unknown_entry_is_an_error(states):
    parts = {name: torch.nn.Identity() for name in ("a", "b")}
    with pytest.raises(CheckpointError, match=r"do not match: [bc]"):
        load_all(parts, states)
