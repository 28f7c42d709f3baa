"""One owner of a directory at a time, whatever races, dies or hangs."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from multiprocessing import get_context

import pytest

from framework.errors import ResumeRefusedError, UnreadableError
from framework.records import encode
from framework.runtime.lease import EXPIRY_SECONDS, Lease, LeaseOwner, _Draft, file_system_now, is_held, read_lease
from framework.runtime.lease_file import encode_owner
from tests.support.toy_lease import hold, race

FAR = LeaseOwner(host="far", machine="far 1 pid:[1]", pid=7, job_id="812")


def held_by(directory, owner, silent_seconds=0.0, number=1):
    """Write a lease as another process would have."""
    path = directory / f"{number:06d}.json"
    path.write_bytes(encode_owner(owner))
    moment = time.time() - silent_seconds
    os.utime(path, (moment, moment))


def can_be_taken(directory):
    try:
        with Lease(directory):
            return True
    except ResumeRefusedError:
        return False


def test_a_directory_is_held_until_the_context_is_left(tmp_path):
    with Lease(tmp_path), pytest.raises(ResumeRefusedError), Lease(tmp_path):
        pass
    assert can_be_taken(tmp_path)


def test_a_lease_leaves_one_small_file(tmp_path):
    for _ in range(3):
        assert can_be_taken(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["000003.json"]


def test_the_refusal_names_the_owner_with_exit_code_3(tmp_path):
    held_by(tmp_path, FAR, silent_seconds=4)
    with pytest.raises(ResumeRefusedError, match="by host far, pid 7, job 812, last seen alive 4 s ago") as error:
        Lease(tmp_path).__enter__()
    assert error.value.exit_code == 3


def test_an_owner_elsewhere_is_replaced_when_its_heartbeat_has_expired(tmp_path):
    held_by(tmp_path, FAR, silent_seconds=EXPIRY_SECONDS - 30)
    assert not can_be_taken(tmp_path)
    held_by(tmp_path, FAR, silent_seconds=EXPIRY_SECONDS + 1)
    with Lease(tmp_path) as lease:
        assert lease.before.owner == FAR


def test_a_job_that_its_scheduler_has_restarted_takes_over(tmp_path, monkeypatch):
    held_by(tmp_path, FAR)
    monkeypatch.setenv("SLURM_JOB_ID", "812")
    assert not can_be_taken(tmp_path)  # a second step of the same job
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    began = time.monotonic()
    with Lease(tmp_path, heartbeat_seconds=0.2):
        assert time.monotonic() - began >= 0.3  # one that lives on, where Slurm has lost its node, has noticed


def test_a_process_here_that_has_ended_is_replaced_immediately(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(tmp_path, LeaseOwner(pid=ended.pid, birth="1"))
    assert can_be_taken(tmp_path)


def test_a_later_process_with_the_same_id_is_not_the_owner(tmp_path):
    held_by(tmp_path, replace(LeaseOwner(), birth="1"))
    assert can_be_taken(tmp_path)


def test_a_process_of_another_namespace_is_not_looked_up_by_its_id(tmp_path):
    held_by(tmp_path, LeaseOwner(machine="here, in a container", pid=2**22 + 1))
    assert not can_be_taken(tmp_path)


def test_a_lease_of_version_02_is_read(tmp_path):
    (tmp_path / "000001.json").write_text(json.dumps(asdict(FAR), indent=1))
    assert read_lease(tmp_path).owner == FAR


@pytest.mark.parametrize("text", ["", '{"host": "fa', "[" * 100_000, "5", "null", "\ud800"])
def test_a_file_without_an_owner_is_held_until_it_has_expired(tmp_path, text):
    held_by(tmp_path, FAR)
    path = tmp_path / "000001.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    os.utime(path, (time.time() - 20, time.time() - 20))
    with pytest.raises(ResumeRefusedError, match=r"000001\.json: is being written or is damaged.*try again in \d+ s"):
        Lease(tmp_path).__enter__()
    os.utime(path, (1, 1))
    assert can_be_taken(tmp_path)


def test_a_file_without_an_owner_and_from_the_future_blocks_no_process(tmp_path):
    held_by(tmp_path, FAR, silent_seconds=-2 * EXPIRY_SECONDS)
    (tmp_path / "000001.json").write_text("")
    os.utime(tmp_path / "000001.json", (time.time() + 1000, time.time() + 1000))
    assert can_be_taken(tmp_path)


@pytest.mark.parametrize(
    "owner", [replace(LeaseOwner(), birth="1"), replace(LeaseOwner(), released=True)], ids=["dead", "released"]
)
def test_no_flipped_byte_hides_an_owner(tmp_path, owner):
    path = tmp_path / "000001.json"
    whole = encode_owner(owner)
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1
        path.write_bytes(data)
        assert read_lease(tmp_path).owner == owner
    for length in range(len(whole) // 2, len(whole)):
        path.write_bytes(whole[:length])
        assert read_lease(tmp_path).owner == owner
    assert can_be_taken(tmp_path)


@pytest.mark.parametrize(
    "entries",
    [{"pid": "1"}, {"pid": 0}, {"pid": 10**30}, {"pid": True}, {"host": 3}, {"host": "\x1b[2J"}, {"since": None},
     {"released": "no"}, {"start_number": "2"}, {"job_id": []}, {"more": 1}, {"machine": {}}],
    ids=str,
)  # fmt: skip
def test_an_owner_of_wrong_types_is_ignored(tmp_path, entries):
    content = {**asdict(LeaseOwner()), **entries}
    (tmp_path / "000001.json").write_bytes(encode(content))
    (tmp_path / "000002.json").write_text(json.dumps(content))
    assert read_lease(tmp_path).owner is None
    os.utime(tmp_path / "000002.json", (1, 1))
    assert can_be_taken(tmp_path)


def as_directory(path):
    path.mkdir()


def as_link(path):
    path.symlink_to("/dev/zero")


NO_FILES = pytest.mark.parametrize("make", [as_directory, as_link, os.mkfifo], ids=["directory", "link", "pipe"])


@NO_FILES
def test_what_is_no_file_is_no_lease(tmp_path, make):
    make(tmp_path / "000007.json")
    with Lease(tmp_path) as lease:
        assert lease.number == 8 and not can_be_taken(tmp_path)
    assert can_be_taken(tmp_path)


@NO_FILES
def test_what_is_no_file_takes_nothing_away_from_an_owner(tmp_path, make):
    with Lease(tmp_path) as lease:
        make(tmp_path / "000007.json")
        assert lease.successor() is None and not can_be_taken(tmp_path)
        lease.check()


def test_numbers_that_no_run_reaches_are_not_counted_on_with(tmp_path):
    for name in ("99999999999999999999.json", f"{'9' * 200}.json"):
        (tmp_path / name).write_text("")
    with Lease(tmp_path) as lease:
        assert lease.number == 1
    held_by(tmp_path, replace(FAR, released=True), number=10**15 - 1)
    with pytest.raises(ResumeRefusedError, match=r"999999999999999\.json: no run gets this far; remove it"):
        Lease(tmp_path).__enter__()


def test_a_lease_directory_that_is_a_link_or_a_file_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(ResumeRefusedError, match=f"{name}: not a directory, or a symbolic link to one"):
            Lease(tmp_path / name).__enter__()
        assert read_lease(tmp_path / name) is None
    assert not list((tmp_path / "elsewhere").iterdir())


def failing(monkeypatch, name, error, times):
    """Have a call of `os` fail some times, and return the list of those failures."""
    failed, call = [], getattr(os, name)

    def fail(*args, **kwargs):
        if len(failed) < times:
            failed.append(args)
            raise OSError(error, os.strerror(error))
        return call(*args, **kwargs)

    monkeypatch.setattr(os, name, fail)
    return failed


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EINTR])
@pytest.mark.parametrize("name", ["read", "open", "listdir", "utime", "link"])
def test_what_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch, name, error):
    held_by(tmp_path, replace(FAR, released=True))
    with monkeypatch.context() as patched:
        failed = failing(patched, name, error, 1 if name == "open" else 2)
        with Lease(tmp_path) as lease:
            lease.check()
            lease._beat()
    assert failed and read_lease(tmp_path).owner.released


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("name", ["read", "listdir"])
def test_a_lease_that_cannot_be_read_is_not_taken_over(tmp_path, monkeypatch, name, error):
    held_by(tmp_path, FAR)
    with monkeypatch.context() as patched, pytest.raises(UnreadableError, match="cannot be read now") as refused:
        failing(patched, name, error, 1000)
        Lease(tmp_path).__enter__()
    assert refused.value.exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["000001.json"]


@pytest.mark.parametrize("name", ["read", "open", "listdir", "utime"])
def test_a_failed_look_never_ends_the_owner(tmp_path, monkeypatch, name):
    with Lease(tmp_path) as lease:
        with monkeypatch.context() as patched:
            failing(patched, name, errno.EIO, 1000)
            lease.check()
            lease._beat()
        assert lease.successor() is None


def test_drafts_have_unpredictable_names_and_follow_no_link(tmp_path, monkeypatch):
    names = []
    link = os.link
    monkeypatch.setattr(os, "link", lambda source, target: (names.append(source.name), link(source, target)))
    for _ in range(2):
        assert can_be_taken(tmp_path)
    assert len(set(names)) == 2 and all(len(name) > 16 for name in names)


def test_the_clock_of_the_file_system_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 5.0)
    assert file_system_now(tmp_path) > 10**9
    failing(monkeypatch, "open", errno.EOPNOTSUPP, 1)  # as on NFS
    assert file_system_now(tmp_path) > 10**9
    assert not list(tmp_path.iterdir())
    failing(monkeypatch, "open", errno.EACCES, 1)
    assert file_system_now(tmp_path) == 5.0


def test_a_clock_that_is_ahead_does_not_make_a_live_owner_dead(tmp_path, monkeypatch):
    held_by(tmp_path, FAR)
    now = time.time()
    for skew in (-200, 0, 200):
        monkeypatch.setattr(time, "time", lambda skew=skew: now + skew)
        assert is_held(tmp_path, read_lease(tmp_path))
    held_by(tmp_path, FAR, silent_seconds=EXPIRY_SECONDS + 220)
    assert not is_held(tmp_path, read_lease(tmp_path))
    assert not is_held(tmp_path, None)


def test_a_process_that_comes_late_with_an_old_view_withdraws(tmp_path, monkeypatch):
    held_by(tmp_path, FAR, silent_seconds=EXPIRY_SECONDS + 1, number=1)
    old_view = read_lease(tmp_path)
    (tmp_path / "000001.json").unlink()
    held_by(tmp_path, FAR, number=5)  # meanwhile there were four other owners, and the fifth is the current one
    views = iter([old_view])
    monkeypatch.setattr("framework.runtime.lease.read_lease", lambda path: next(views, None) or read_lease(path))
    assert not can_be_taken(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000005.json"]


def test_without_hard_links_there_is_still_one_owner(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Lease(tmp_path):
        assert not can_be_taken(tmp_path)
        assert not _Draft(tmp_path, LeaseOwner()).publish(tmp_path / "000001.json")


def test_of_two_processes_that_race_exactly_one_owns_the_directory_every_time(tmp_path):
    for number in range(100):
        (tmp_path / str(number)).mkdir()
        if number % 2:  # in every other round there is a dead owner to take over from
            held_by(tmp_path / str(number), FAR, silent_seconds=EXPIRY_SECONDS + 1)
    context = get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    racers = [context.Process(target=race, args=(str(tmp_path), 100, barrier, results)) for _ in range(2)]
    for process in racers:
        process.start()
    won = [results.get(timeout=60) for _ in racers]
    for process in racers:
        process.join(30)
    assert [a + b for a, b in zip(*won, strict=True)] == [1] * 100


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`."""
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_killed_owner_is_taken_over_at_once(holder, tmp_path):
    assert not can_be_taken(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert can_be_taken(tmp_path)


def test_an_owner_that_was_taken_over_ends_itself_with_exit_code_3(holder, tmp_path):
    held_by(tmp_path, FAR, number=2)
    holder.join(30)
    assert holder.exitcode == 3
    assert read_lease(tmp_path).owner == FAR


def test_an_owner_shows_that_it_is_alive(holder, tmp_path):
    os.utime(tmp_path / "000001.json", (1, 1))
    deadline = time.monotonic() + 30
    while read_lease(tmp_path).last_sign == 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert time.time() - read_lease(tmp_path).last_sign < 60


def test_a_heartbeat_that_fails_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    with Lease(tmp_path) as lease:
        os.utime(tmp_path / "000001.json", (1, 1))
        failing(monkeypatch, "utime", errno.ESTALE, 2)
        lease._beat()
        assert read_lease(tmp_path).last_sign > 1
