"""Files that another user may have prepared, and file systems that fail."""

import errno
import os
import re
from pathlib import Path

import pytest

from framework.errors import DamagedError, UnreadableError
from framework.files import (
    create,
    is_real_directory,
    make_own_directory,
    open_to_append,
    read_file,
    remove_unfinished,
    replace_file,
    replacing,
    retry,
)
from framework.records import opened, read_error, read_record, write_record


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_atomically(tmp_path):
    path = tmp_path / "a.json"
    replace_file(path, "first")
    replace_file(path, b"second")
    assert path.read_text() == "second" and names(tmp_path) == ["a.json"]


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "a.json"
    precious.write_text("precious")
    path.symlink_to(precious)
    replace_file(path, "mine")
    assert precious.read_text() == "precious" and path.read_text() == "mine" and not path.is_symlink()


@pytest.mark.parametrize("opened", [read_file, create, open_to_append], ids=lambda f: f.__name__)
def test_nothing_is_opened_through_a_link(tmp_path, opened):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"symbolic links|File exists"):
        opened(tmp_path / "link")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "a.json")


def test_what_was_not_written_to_its_end_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    replace_file(path, "old")
    with pytest.raises(ValueError, match="halfway"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise ValueError("halfway")
    assert path.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_what_killed_processes_had_begun_is_removed_and_nothing_else(tmp_path):
    for name in (".a.json.0123456789abcdef.tmp", ".a.json.tmp", "a.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == [".a.json.tmp", "a.tmp"]


def failing(*errors):
    """Return a call that raises these errors, one after the other, and then returns 5."""
    left = list(errors)

    def call():
        if left:
            raise OSError(left.pop(0), "told to")
        return 5

    return call


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EINTR])
def test_what_fails_for_a_moment_is_tried_again(error):
    assert retry(failing(error, error)) == 5
    with pytest.raises(OSError, match="told to"):
        retry(failing(error, error, error))


def test_what_fails_for_good_is_not_tried_again():
    with pytest.raises(PermissionError):
        retry(failing(errno.EACCES))


def test_a_record_is_read_as_it_was_written(tmp_path):
    write_record(tmp_path / "a.json", {"lr": 0.1, "nodes": ["z"]})
    assert read_record(tmp_path / "a.json") == {"lr": 0.1, "nodes": ["z"]}


@pytest.mark.parametrize("position", range(0, 60, 3))
def test_one_changed_letter_of_a_record_is_never_read(tmp_path, position):
    path = tmp_path / "a.json"
    write_record(path, {"lr": 0.1, "nodes": ["z"]})
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    try:
        assert read_record(path) == {"lr": 0.1, "nodes": ["z"]}  # white space
    except DamagedError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("text", ["", "5", "null", "{}", "[1]", '{"a": 1}', "[" * 100_000, '{"a": 1e999}', "\x00"])
def test_what_is_no_record_is_damaged(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DamagedError, match=r"a\.json: damaged"):
        read_record(tmp_path / "a.json")


def test_a_directory_in_place_of_a_record_is_damaged(tmp_path):
    with pytest.raises(DamagedError, match="is a directory"):
        read_record(tmp_path)


def test_what_the_file_system_does_not_give_is_not_called_damaged(tmp_path, monkeypatch):
    write_record(tmp_path / "a.json", {})

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableError, match=r"cannot be read now.*make it readable"):
        read_record(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENOENT, DamagedError, "damaged .missing"),
        (errno.ELOOP, DamagedError, "is a link"),
        (errno.ENAMETOOLONG, DamagedError, "damaged .its name is too long"),
        (errno.EACCES, UnreadableError, "cannot be read now .*make it readable"),
        (errno.EIO, UnreadableError, "cannot be read now .*check the file system"),
    ],
)
def test_an_error_is_damage_only_where_the_file_is_to_blame(number, kind, reason):
    error = read_error(Path("a.pth"), OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert re.match(rf"a\.pth: {reason}", str(error))


def test_a_directory_in_place_of_a_file_is_renamed_and_reported(tmp_path, caplog):
    path = tmp_path / "a.json"
    for number in ("", "-2"):
        path.mkdir()
        (path / "precious").touch()
        replace_file(path, "mine")
        assert path.read_text() == "mine" and (tmp_path / f"a.json.damaged{number}/precious").exists()
        assert f"is a directory, expected a file; renamed to a.json.damaged{number}" in caplog.text
        path.unlink()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_directory_of_which_nothing_is_known_now_is_not_renamed(tmp_path, monkeypatch, number):
    def lstat(path):
        raise OSError(number, os.strerror(number), str(path))

    (tmp_path / "attempts").mkdir()
    with monkeypatch.context() as patch, pytest.raises(OSError, match=os.strerror(number)):
        patch.setattr(Path, "lstat", lstat)
        make_own_directory(tmp_path / "attempts")
    assert [path.name for path in tmp_path.iterdir()] == ["attempts"]


def test_a_file_or_a_link_in_place_of_a_directory_is_renamed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("precious")
    for name in ("link", "file", "none"):
        make_own_directory(tmp_path / name)
        assert is_real_directory(tmp_path / name)
    assert (tmp_path / "file.damaged").read_text() == "precious" and (tmp_path / "link.damaged").is_symlink()


def test_what_libraries_read_is_opened_as_records_are(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with opened(tmp_path / "a") as file:
        assert file.read() == b"abc"
    with pytest.raises(DamagedError, match="link: is a link"), opened(tmp_path / "link"):
        pass
    with pytest.raises(FileNotFoundError, match="missing"), opened(tmp_path / "none"):
        pass
    with pytest.raises(UnreadableError, match="cannot be read now"), opened(tmp_path / "a"):
        raise OSError(errno.EIO, "Input/output error")


def test_a_file_without_a_digest_is_of_an_older_version_only_with_its_very_keys(tmp_path):
    (tmp_path / "a.json").write_text('{"lr": 1}')
    assert read_record(tmp_path / "a.json", of_version_02=[("seed",), ("lr",)]) == {"lr": 1}
    for keys in ((), ("lr", "seed"), ("seed",)):
        with pytest.raises(DamagedError):
            read_record(tmp_path / "a.json", of_version_02=[keys])


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_on_disk_with_its_name_before_the_call_returns(tmp_path, monkeypatch, durable):
    def replacing_it(path):
        with replacing(path, durable) as temporary:
            temporary.write_text("mine")

    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    for write in (lambda path: replace_file(path, "mine", durable), replacing_it):
        synced.clear()
        write(tmp_path / "a.json")
        expected = [(tmp_path / "a.json").stat().st_ino, tmp_path.stat().st_ino]
        assert synced == (expected if durable else [])
