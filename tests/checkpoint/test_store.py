"""Generations on disk: complete or absent, verified when read, and older ones kept until the new one is complete."""

import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import framework.checkpoint
from framework.checkpoint import CheckpointStore, RandomState, check_classes, class_paths, load_all
from framework.checkpoint.torch_files import read_torch
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
    first_inode = (store.commit(files(1), {}).path / "z/model.pth").stat().st_ino
    second = store.commit({"y/checkpoint.json": {"epoch": 5}}, {})
    third = store.commit({"y/checkpoint.json": {"epoch": 6}}, {})
    assert third.files.keys() == {"y/checkpoint.json", "z/checkpoint.json", "z/model.pth"}
    assert (second.path / "z/model.pth").stat().st_nlink == 1, "a file that two in a row shared would be lost in both"
    assert (third.path / "z/model.pth").stat().st_ino == first_inode


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


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["z/model.pth", "z/checkpoint.json", "manifest.json"])
def test_a_flipped_bit_anywhere_in_the_newest_brings_back_the_one_before_it_loudly(tmp_path, caplog, name):
    store = CheckpointStore(tmp_path)
    store.commit(files(1), {"step": 10})
    newest = store.commit(files(2), {"step": 20})
    size = (newest.path / name).stat().st_size
    for position in range(0, size, max(size // 40, 1)):
        flip(newest.path / name, position)
        caplog.clear()
        assert CheckpointStore(tmp_path).latest().load("z/checkpoint.json") == {"epoch": 1}
        assert f"00000002/{name}: damaged" in caplog.text
        flip(newest.path / name, position)
    assert CheckpointStore(tmp_path).latest().load("z/checkpoint.json") == {"epoch": 2}


def test_saving_continues_after_a_damaged_one_which_is_kept_while_it_is_among_the_newest(tmp_path):
    store = CheckpointStore(tmp_path)
    store.commit(files(1), {})
    damaged = store.commit(files(2), {})
    flip(damaged.path / "z/model.pth", 700)
    store = CheckpointStore(tmp_path)
    assert store.commit(files(3), {}).path.name == "00000003"
    assert names(tmp_path) == ["00000001", "00000002", "00000003"], "1 is what 3 would fall back on"
    store.commit(files(4), {})
    assert names(tmp_path) == ["00000003", "00000004"]


def names(root):
    return sorted(path.name for path in root.iterdir() if path.name != "latest")


def test_when_none_is_intact_a_run_does_not_start_from_scratch(tmp_path):
    path = CheckpointStore(tmp_path).commit(files(1), {}).path
    (path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        CheckpointStore(tmp_path).latest()


def test_readers_delete_nothing(tmp_path):
    CheckpointStore(tmp_path).commit(files(1), {})
    (tmp_path / "00000002.tmp").mkdir()
    before = sorted(tmp_path.rglob("*"))
    store = CheckpointStore(tmp_path)
    store.latest().verify()
    store.generations()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_with_the_bytes_it_had_is_linked_to_the_one_before_the_last(tmp_path):
    store = CheckpointStore(tmp_path, keep=9)
    best = {"z/model_best.pth": {"w": torch.arange(5.0)}}
    saved = [store.commit({**files(value), **best}, {}) for value in range(6)]
    inodes = [(generation.path / "z/model_best.pth").stat().st_ino for generation in saved]
    assert inodes == 3 * inodes[:2]
    assert inodes[0] != inodes[1]
    assert len({(generation.path / "z/model.pth").stat().st_ino for generation in saved}) == 6
    saved[-1].verify()


def test_a_file_system_without_hard_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    store = CheckpointStore(tmp_path)
    first = store.commit(files(1), {})
    second = store.commit({"y/checkpoint.json": {}}, {})
    assert not (first.path / "z/model.pth").samefile(second.path / "z/model.pth")
    second.verify()


def test_at_least_the_newest_and_one_to_fall_back_on_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    for value in range(3):
        store.commit(files(value), {})
    assert names(tmp_path) == ["00000002", "00000003"]


def test_an_emergency_is_loaded_by_name_and_never_otherwise(tmp_path):
    store = CheckpointStore(tmp_path)
    store.commit(files(1), {})
    emergency = store.commit(files(2), {}, emergency=True)
    assert emergency.path.name == "emergency-00000002"
    assert store.latest().load("z/checkpoint.json") == {"epoch": 1}
    assert store.named(emergency.path.name).load("z/checkpoint.json") == {"epoch": 2}
    for value in range(3, 7):
        store.commit(files(value), {})
    assert names(tmp_path) == ["00000005", "00000006", "emergency-00000002"]
    with pytest.raises(CheckpointError, match="no such checkpoint; available: 00000005, 00000006, emergency-00000002"):
        store.named("00000001")


def test_emergencies_of_a_job_that_keeps_crashing_do_not_fill_the_disk(tmp_path):
    for value in range(4):
        CheckpointStore(tmp_path, keep=2).commit(files(value), {}, emergency=True)
    assert names(tmp_path) == ["emergency-00000003", "emergency-00000004"]


def test_compressed_files_are_smaller_and_load_like_any_other(tmp_path):
    content = {"z/model.pth": {"w": torch.zeros(10_000), "b": torch.arange(3)}}
    generation = CheckpointStore(tmp_path, compress=True).commit(content, {})
    assert generation.files["z/model.pth"]["size"] < 4_000
    assert torch.equal(generation.load("z/model.pth")["b"], torch.arange(3))
    assert torch.load(generation.path / "z/model.pth", weights_only=True).keys() == {"w", "b"}


def test_files_are_plain_for_torch_and_json(tmp_path):
    path = CheckpointStore(tmp_path).commit(files(7), {"nodes": ["z"]}).path
    assert torch.load(path / "z/model.pth", weights_only=True)["w"].tolist() == [7.0] * 3
    assert json.loads((path / "z/checkpoint.json").read_text()) == {"epoch": 7}
    assert json.loads((path / "manifest.json").read_text())["files"]["z/model.pth"]["size"] > 0
    assert torch.serialization.get_crc32_options(), "torch.save elsewhere is as it was"


def test_the_package_needs_nothing_of_the_framework_but_its_errors_and_what_reads_and_writes_files():
    for path in Path(framework.checkpoint.__file__).parent.glob("*.py"):
        modules = re.findall(r"^\s*(?:from|import) (framework[\w.]*)", path.read_text(), re.MULTILINE)
        allowed = {"framework.errors", "framework.files", "framework.records", "framework.compat.torch"}
        assert all(m in allowed or m.startswith("framework.checkpoint") for m in modules), path


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

    path = tmp_path / "z" / "model.pth"
    path.parent.mkdir()
    torch.save({"w": Bomb()}, path)  # by another program: a store would refuse it
    with pytest.raises(CheckpointError, match=r"refused because .* [Ww]eights"), path.open("rb") as file:
        read_torch(path, file)
    assert not (tmp_path / "boom").exists()


def test_random_generators_continue_where_they_were():
    state = json.loads(json.dumps(RandomState().state_dict()))
    expected = random.random(), np.random.rand(), torch.rand(3).tolist()
    RandomState().load_state_dict(state)
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == expected


@pytest.mark.parametrize("states", [{"a": {}}, {"a": {}, "b": {}, "c": {}}])
def test_a_missing_or_unknown_entry_is_an_error(states):
    parts = {name: torch.nn.Identity() for name in ("a", "b")}
    with pytest.raises(CheckpointError, match=r"do not match: [bc]"):
        load_all(parts, states)


def test_an_error_in_loading_a_part_names_the_entry():
    parts = {"model": torch.nn.Linear(1, 1), "rng": RandomState()}
    states = {"model": parts["model"].state_dict(), "rng": {"python": [3, [1, 2], None]}}
    with pytest.raises(CheckpointError, match=r"checkpoint entry rng: cannot be loaded \(ValueError: state vector is"):
        load_all(parts, states)
    with pytest.raises(CheckpointError, match=r"checkpoint entry model: .*Missing key\(s\) in state_dict: \"weight\""):
        load_all(parts, states | {"model": {"bias": torch.zeros(1)}})


def test_state_of_a_class_that_has_moved_since_is_taken():
    check_classes({"rng": RandomState()}, {"rng": "framework.checkpoint.rng.RandomState"})
    with pytest.raises(CheckpointError, match=r"saved by framework\.checkpoint\.rng\.RandomState, refused for torch"):
        check_classes({"rng": torch.nn.Identity()}, {"rng": "framework.checkpoint.rng.RandomState"})


def test_state_of_another_class_is_refused():
    saved = class_paths({"model": torch.nn.Linear(1, 1)})
    check_classes({"model": torch.nn.Linear(1, 1)}, saved)
    with pytest.raises(CheckpointError, match=r"model: saved by torch.*\.Linear, refused for torch.*\.Identity"):
        check_classes({"model": torch.nn.Identity()}, saved)
    with pytest.raises(CheckpointError, match="saved by None"):
        check_classes({"model": torch.nn.Identity()}, {})
