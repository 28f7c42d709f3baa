"""The model of a disk: what a power cut must keep, and what it may lose."""

import os
import random

import pytest

from tests.faults import shim
from tests.faults.power import Disk, write_state

pytestmark = pytest.mark.usefixtures("ptrace")


def states_after(tmp_path, work, before=lambda root: None):
    """Do the work; return the states in which a power cut at its end may leave the disk."""
    root = tmp_path / "run"
    root.mkdir()
    before(root)
    disk = Disk(root)
    outcome = shim.run(lambda root, acknowledge: work(root), root, record=True)
    assert outcome.exit_code == 0, outcome.raised
    for call in outcome.calls:
        disk.apply(call)
    rng = random.Random(0)
    return [state for _ in range(20) for state in disk.states(rng)]


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def contents(states, name):
    return {state[name][1] if name in state else None for state in states}


def test_what_was_not_fsynced_may_be_lost_empty_there_in_part_zeros_or_whole(tmp_path):
    states = states_after(tmp_path, lambda root: (root / "a").write_bytes(b"abcd"))
    assert contents(states, "a") == {None, b"", b"a", b"ab", b"abc", b"\0\0\0\0", b"abcd"}


def test_an_fsynced_file_is_whole_if_it_has_its_name(tmp_path):
    def work(root):
        (root / "a").write_bytes(b"abcd")
        sync(root / "a")

    assert contents(states_after(tmp_path, work), "a") == {None, b"abcd"}


def test_with_its_directory_it_is_there(tmp_path):
    def work(root):
        (root / "a").write_bytes(b"abcd")
        sync(root / "a")
        sync(root)
        (root / "b").touch()

    states = states_after(tmp_path, work)
    assert contents(states, "a") == {b"abcd"} and contents(states, "b") == {None, b""}


def test_a_directory_that_was_not_fsynced_may_be_lost_with_all_that_was(tmp_path):
    def work(root):
        (root / "d").mkdir()
        (root / "d/a").write_bytes(b"abcd")
        sync(root / "d/a")
        sync(root / "d")

    assert contents(states_after(tmp_path, work), "d/a") == {None, b"abcd"}


def test_a_rename_is_done_or_not_and_the_old_file_is_not_lost(tmp_path):
    def work(root):
        (root / "new").write_bytes(b"new")
        sync(root / "new")
        (root / "new").rename(root / "a")

    states = states_after(tmp_path, work, lambda root: (root / "a").write_bytes(b"old"))
    assert contents(states, "a") == {b"old", b"new"}
    assert not any("new" in state and state["a"][1] == b"new" for state in states)


def test_a_renamed_directory_takes_along_what_is_certain_below_it(tmp_path):
    def work(root):
        (root / "d.tmp").mkdir()
        (root / "d.tmp/a").write_bytes(b"abcd")
        sync(root / "d.tmp/a")
        sync(root / "d.tmp")
        (root / "d.tmp").rename(root / "d")
        sync(root)
        (root / "d/b").write_bytes(b"more")

    states = states_after(tmp_path, work)
    assert contents(states, "d/a") == {b"abcd"} and not any("d.tmp" in state for state in states)
    assert None in contents(states, "d/b") and b"more" in contents(states, "d/b")


def test_changes_of_one_directory_survive_in_their_order(tmp_path):
    states = states_after(tmp_path, lambda root: [(root / name).touch() for name in "abc"])
    assert {"".join(sorted(state)) for state in states} == {"", "a", "ab", "abc"}


def test_names_of_one_file_stay_that_and_what_is_appended_to_both_is_lost_from_both(tmp_path):
    def before(root):
        (root / "a").write_bytes(b"old")
        os.link(root / "a", root / "b")

    def work(root):
        with (root / "a").open("ab") as file:
            file.write(b"-new")

    states = states_after(tmp_path, work, before)
    assert contents(states, "a") == {b"old", b"old-", b"old-n", b"old-ne", b"old\0\0\0\0", b"old-new"}
    write_state(states[0], tmp_path / "after")
    assert (tmp_path / "after/a").read_bytes() == b"old" and (tmp_path / "after/a").samefile(tmp_path / "after/b")
