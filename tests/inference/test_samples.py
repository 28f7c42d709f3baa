"""Samples on disk: complete, durable, and validated when they are read."""

import io
import os

import numpy as np
import pytest

from framework.errors import CheckpointError, ConfigError
from framework.inference.samples import next_directory, read_samples, write_samples

ARRAYS = {"z": {"samples": np.arange(12.0).reshape(1, 6, 2), "log_prob": np.zeros((1, 6))}}
LABELS = {"z": ["a", "b"]}


def write(directory, scale=1.0):
    write_samples(directory, {"z": {"samples": scale * ARRAYS["z"]["samples"]}}, LABELS, {"kind": "posterior"})


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_samples_are_read_as_they_were_written(tmp_path):
    write_samples(tmp_path / "posterior", ARRAYS, LABELS, {"kind": "posterior"})
    found = read_samples(tmp_path / "posterior")
    assert found["z"]["labels"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(found["z"]["samples"], ARRAYS["z"]["samples"])
    assert names(tmp_path / "posterior") == ["source.json", "z.npz"]


def test_nothing_is_written_through_a_link(tmp_path):
    precious, directory = tmp_path / "precious", tmp_path / "posterior"
    precious.write_text("precious")
    directory.mkdir()
    for name in (".z.tmp.npz", "z.npz", "source.json", ".source.json.tmp"):
        (directory / name).symlink_to(precious)
    write(directory)
    assert precious.read_text() == "precious" and read_samples(directory)["z"]["samples"].shape == (1, 6, 2)


def test_a_directory_of_samples_that_is_a_link_is_renamed(tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "posterior").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="contains no samples"):
        read_samples(tmp_path / "posterior")
    write(tmp_path / "posterior")
    assert not names(tmp_path / "elsewhere") and names(tmp_path / "posterior") == ["source.json", "z.npz"]
    assert "renamed to posterior.damaged" in caplog.text


def test_a_directory_in_place_of_a_file_is_renamed(tmp_path):
    (tmp_path / "z.npz").mkdir()
    write(tmp_path)
    assert names(tmp_path) == ["source.json", "z.npz", "z.npz.damaged"]


def test_a_killed_write_leaves_no_half_file_and_its_rest_goes_with_the_next(tmp_path, monkeypatch):
    write(tmp_path)
    (tmp_path / ".z.npz.0123456789abcdef.tmp").write_bytes(b"half")

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(np, "savez", die)
        write(tmp_path, 2.0)
    assert names(tmp_path) == ["z.npz"]  # and no source: these are not all the samples of one draw
    np.testing.assert_array_equal(read_samples(tmp_path)["z"]["samples"], ARRAYS["z"]["samples"])
    write(tmp_path, 2.0)
    assert names(tmp_path) == ["source.json", "z.npz"]


def test_samples_are_durable_with_the_directories_above(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    write(tmp_path / "samples/posterior")
    assert {path.stat().st_ino for path in [tmp_path, *tmp_path.rglob("*")]} <= synced


def savez(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Spy:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        savez(samples=np.zeros(100))[:-40],
        savez(samples=np.zeros(100))[:200] + b"\xff" + savez(samples=np.zeros(100))[201:],
        savez(samples=np.array([Spy()], dtype=object)),
        savez(samples=np.zeros(3)).replace(b"(3,)", b"(%d,)" % 10**18),
        b"\x93NUMPY\x01\x00",
    ],
    ids=["empty", "garbage", "truncated", "flipped", "object", "huge", "npy"],
)
def test_a_damaged_file_of_samples_is_named(tmp_path, data):
    (tmp_path / "z.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"z\.npz: damaged"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    "make",
    [lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero"), os.mkfifo],
    ids=["dir", "link", "pipe"],
)
def test_what_is_no_file_is_not_read(tmp_path, make):
    make(tmp_path / "z.npz")
    with pytest.raises(CheckpointError, match=r"z\.npz: is (a link|a directory|not a regular file)"):
        read_samples(tmp_path)


def test_the_next_directory_is_one_that_no_link_stands_for(tmp_path):
    (tmp_path / "posterior-2").symlink_to(tmp_path / "nowhere")
    assert next_directory(tmp_path, "posterior") == tmp_path / "posterior-3"
