"""A checkpoint that cannot be read at the moment is not called damaged, and users are not told to discard it."""

import errno
import os

import pytest
import torch

import framework.files
from framework.checkpoint import CheckpointStore, CheckpointWriter, Generation
from framework.checkpoint.manifest import generation_paths
from framework.errors import UnreadableError

NUMBERS = [errno.EACCES, errno.EIO, errno.ESTALE]


def files(value):
    return {"z/model.pth": {"w": torch.full((3,), float(value))}, "z/checkpoint.json": {"epoch": value}}


@pytest.fixture
def broken(monkeypatch):
    """Return {path or a directory's: errno} of what cannot be opened; with a list of numbers, each of them once."""
    paths, true = {}, os.open
    monkeypatch.setattr(framework.files, "_WAITS_SECONDS", (0, 0))

    def opened(path, *arguments, **options):
        for broken_path, number in paths.items():
            if os.fspath(path).startswith(str(broken_path)):
                number = number.pop(0) if isinstance(number, list) and number else number
                if number:
                    raise OSError(number, os.strerror(number), str(path))
        return true(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)
    return paths


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["manifest.json", "z/model.pth", "z/checkpoint.json"])
def test_the_one_before_is_taken_and_the_newest_is_not_called_damaged(tmp_path, broken, caplog, name, number):
    store = CheckpointStore(tmp_path)
    first, second = store.commit(files(1), {}), store.commit(files(2), {})
    broken[second.path / name] = number
    store = CheckpointStore(tmp_path)
    assert store.latest() == store.latest() == first
    assert len(caplog.records) == 1
    assert f"00000002/{name}: cannot be read now" in caplog.text and "damaged" not in caplog.text
    with pytest.raises(UnreadableError, match=f"00000002/{name}: cannot be read now"):
        store.named("00000002")
    broken.clear()
    assert store.latest() == first, "an attempt continues from the checkpoint with which it started"
    assert CheckpointStore(tmp_path).latest() == second


@pytest.mark.parametrize("number", NUMBERS)
def test_if_none_can_be_read_users_are_not_advised_to_start_from_scratch(tmp_path, broken, number):
    CheckpointStore(tmp_path).commit(files(1), {})
    broken[tmp_path / "0"] = number
    store = CheckpointStore(tmp_path)
    for call in (store.latest, store.generations, lambda: store.commit(files(2), {})):
        with pytest.raises(UnreadableError, match=r"no checkpoint can be read now.*try again") as raised:
            call()
        assert "scratch" not in str(raised.value) and "move" not in str(raised.value)
    broken.clear()
    assert store.latest().path.name == "00000001", "once it can be read all is well"


def test_one_that_is_damaged_beside_an_unreadable_one_is_no_reason_to_start_from_scratch(tmp_path, broken):
    store = CheckpointStore(tmp_path)
    first, second = store.commit(files(1), {}), store.commit(files(2), {})
    (second.path / "manifest.json").write_text("{}")
    broken[first.path] = errno.EIO
    with pytest.raises(UnreadableError, match="can be read now"):
        CheckpointStore(tmp_path).latest()


def test_a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    CheckpointStore(tmp_path).commit(files(1), {})

    def scandir(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    for call in (CheckpointStore(tmp_path).latest, CheckpointStore(tmp_path).generations):
        with pytest.raises(UnreadableError, match="cannot be read now"):
            call()


def test_generations_leave_out_what_cannot_be_read_and_say_so(tmp_path, broken, caplog):
    store = CheckpointStore(tmp_path)
    first, second = store.commit(files(1), {}), store.commit(files(2), {})
    broken[first.path] = errno.ESTALE
    assert store.generations() == [second]
    assert "00000001/manifest.json: cannot be read now" in caplog.text


@pytest.mark.parametrize("name", ["", "z/model.pth"])
def test_it_is_never_pruned_and_its_number_never_used_again(tmp_path, broken, name):
    store = CheckpointStore(tmp_path)
    first, second = store.commit(files(1), {}), store.commit(files(2), {})
    broken[second.path / name] = errno.EIO
    store = CheckpointStore(tmp_path)
    assert store.latest() == first
    saved = [store.commit(files(value), {}).path.name for value in range(3, 7)]
    assert saved == ["00000003", "00000004", "00000005", "00000006"]
    assert [path.name for path in generation_paths(tmp_path)] == ["00000002", *saved[-2:]]
    broken.clear()
    Generation.open(second.path).verify()


def test_it_is_not_pruned_by_a_process_that_never_looked_at_it(tmp_path, broken):
    store = CheckpointStore(tmp_path)
    broken[store.commit(files(1), {}).path] = errno.EACCES
    for value in (2, 3, 4):
        store.commit(files(value), {})
        store = CheckpointStore(tmp_path)
    assert [path.name for path in generation_paths(tmp_path)] == ["00000001", "00000003", "00000004"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN])
@pytest.mark.parametrize("name", ["manifest.json", "z/model.pth", "z/checkpoint.json"])
def test_what_fails_for_the_moment_is_tried_again(tmp_path, broken, caplog, name, number):
    second = CheckpointStore(tmp_path).commit(files(2), {})
    broken[second.path / name] = [number, number]
    newest = CheckpointStore(tmp_path).latest()
    assert newest.load("z/checkpoint.json") == {"epoch": 2}
    assert not caplog.records


def test_a_file_that_cannot_be_read_is_taken_from_where_it_can(tmp_path, broken, caplog):
    store = CheckpointStore(tmp_path)
    same = {"z/first.pth": {"w": torch.arange(5.0)}}
    for value in (1, 2):
        newest = store.commit({**files(value), **same}, {})
    broken[newest.path / "z/first.pth"] = errno.EIO
    found = CheckpointStore(tmp_path).latest()
    assert found == newest
    assert torch.equal(found.load("z/first.pth")["w"], same["z/first.pth"]["w"])
    assert "00000002/z/first.pth: cannot be read now" in caplog.text and "00000001/z/first.pth" in caplog.text


def test_training_continues_while_checkpoints_cannot_be_read_and_saves_once_they_can(tmp_path, broken, caplog):
    CheckpointStore(tmp_path).commit(files(1), {})
    broken[tmp_path / "0"] = errno.EIO
    with CheckpointWriter(CheckpointStore(tmp_path)) as writer:
        writer.save(files(2), {})
        writer.wait()
        assert "can be read now" in caplog.text and "training continues" in caplog.text
        broken.clear()
        writer.save(files(3), {})
    assert [path.name for path in generation_paths(tmp_path)] == ["00000001", "00000002"]
    assert CheckpointStore(tmp_path).latest().load("z/checkpoint.json") == {"epoch": 3}
