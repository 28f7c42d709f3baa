"""The shim: which calls it counts, what it does there, and that it leaves no process behind."""

import ctypes
import errno
import os
import threading
import time
from pathlib import Path

import pytest

from framework.files import replace_file
from tests.faults import shim
from tests.faults.fault import AFTER, TORN, Fault

pytestmark = pytest.mark.usefixtures("ptrace")


def write_two(root, acknowledge):
    """Write two files, one of them in another thread, and below Python."""
    (root / "a").write_bytes(b"first")
    acknowledge("a")
    libc = ctypes.CDLL(None)
    descriptor = libc.open(str(root / "b").encode(), os.O_WRONLY | os.O_CREAT, 0o600)
    thread = threading.Thread(target=lambda: libc.write(descriptor, b"second", 6))
    thread.start()
    thread.join()
    return (root / "b").read_bytes()


def changes(outcome):
    return [(call.kind, Path(call.paths[0]).name, call.data) for call in outcome.calls if call.changes]


def numbers_of(outcome, kind):
    return [number for number, call in enumerate(outcome.calls) if call.kind == kind]


def processes():
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def children():
    """Return the processes whose parent this one is."""
    found = set()
    for number in processes():
        try:
            parent = int((Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            found.add(number)
    return found


def test_calls_of_all_threads_are_recorded_also_those_below_python(tmp_path):
    outcome = shim.run(write_two, tmp_path, record=True)
    assert (outcome.exit_code, outcome.raised, outcome.returned) == (0, "", b"second")
    expected = [("open", "a", b""), ("write", "a", b"first"), ("open", "b", b""), ("write", "b", b"second")]
    assert changes(outcome) == expected
    assert outcome.acknowledged == ["a"]
    assert numbers_of(outcome, "write")[0] < outcome.acknowledged_after[0] <= numbers_of(outcome, "write")[1]


def test_a_kill_comes_before_a_call_in_the_middle_of_it_or_after_it(tmp_path):
    first, second = numbers_of(shim.run(write_two, tmp_path, record=True), "write")
    found = []
    for fault in [Fault(first), Fault(second), Fault(second, when=TORN), Fault(second, when=AFTER)]:
        for name in ("a", "b"):
            (tmp_path / name).unlink(missing_ok=True)
        outcome = shim.run(write_two, tmp_path, fault)
        assert outcome.exit_code == -9 and outcome.was_hit
        assert outcome.acknowledged == ([] if fault.number == first else ["a"])
        found.append(((tmp_path / "a").read_bytes(), (tmp_path / "b").exists() and (tmp_path / "b").read_bytes()))
    assert found == [(b"", False), (b"first", b""), (b"first", b"sec"), (b"first", b"second")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.ESTALE, errno.EDQUOT])
def test_a_call_fails_undone_or_done(tmp_path, number):
    def rename(root, acknowledge):
        (root / "a").write_bytes(b"")
        (root / "a").rename(root / "b")

    (at,) = numbers_of(shim.run(rename, tmp_path, record=True), "rename")
    (tmp_path / "b").unlink()
    outcome = shim.run(rename, tmp_path, Fault(at, number))
    assert outcome.raised.endswith(f"[Errno {number}] {os.strerror(number)}: '{tmp_path / 'a'}' -> '{tmp_path / 'b'}'")
    assert (tmp_path / "a").exists() and outcome.exit_code == 1 and outcome.is_clean
    outcome = shim.run(rename, tmp_path, Fault(at, number, AFTER))
    assert os.strerror(number) in outcome.raised and (tmp_path / "b").exists()


def test_what_is_no_error_of_the_framework_or_of_files_is_not_clean(tmp_path):
    outcome = shim.run(lambda root, acknowledge: {}["missing"], tmp_path)
    assert not outcome.is_clean and "KeyError: 'missing'" in outcome.raised and outcome.exit_code == 1


def test_something_else_happens_while_all_of_it_stands_still(tmp_path):
    def count(root, acknowledge):
        thread = threading.Thread(target=lambda: [(root / "ticks").write_text(str(n)) for n in range(200)], daemon=True)
        thread.start()
        (root / "a").touch()
        thread.join()
        return (root / "meanwhile").read_text()

    def meanwhile():
        before = (tmp_path / "ticks").stat().st_mtime_ns if (tmp_path / "ticks").exists() else 0
        time.sleep(0.05)
        after = (tmp_path / "ticks").stat().st_mtime_ns if (tmp_path / "ticks").exists() else 0
        (tmp_path / "meanwhile").write_text(f"{after == before}")

    assert shim.run(count, tmp_path, Fault(3, meanwhile=meanwhile)).returned == "True"


def test_no_process_is_left_whatever_happens(tmp_path):
    def fork_and_hang(root, acknowledge):
        if os.fork() == 0:
            time.sleep(600)
        (root / "a").touch()
        time.sleep(600)

    def fail():
        raise RuntimeError("of the test")

    before = children()
    assert shim.run(fork_and_hang, tmp_path, Fault(0)).exit_code == -9
    assert shim.run(fork_and_hang, tmp_path, limit_seconds=1).exit_code == -14
    with pytest.raises(RuntimeError, match="of the test"):
        shim.run(fork_and_hang, tmp_path, Fault(0, meanwhile=fail))
    assert children() == before


def test_faults_are_at_the_same_calls_each_time(tmp_path):
    def replace_two(root, acknowledge):
        for name in ("a", "b"):
            replace_file(root / name, b"new")

    kinds = [[call.kind for call in shim.run(replace_two, tmp_path, record=True).calls] for _ in range(3)]
    assert kinds[0] == kinds[1] == kinds[2] and "sync" in kinds[0]
