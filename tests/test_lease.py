"""One owner of a directory at a time, whatever races, dies or hangs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from multiprocessing import get_context

import pytest

from framework.errors import ResumeRefusedError
from framework.runtime.lease import EXPIRY_SECONDS, Lease, Owner, _Draft, read_lease
from tests.toy_lease import hold, race

FAR = Owner(host="far", machine="far 1 pid:[1]", pid=7, job_id="812")


def held_by(directory, owner, silent_seconds=0.0, number=1):
    """Write a lease as another process would have."""
    path = directory / f"{number:06d}.json"
    path.write_text(json.dumps(asdict(owner)))
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


def test_an_owner_elsewhere_is_let_go_when_its_heartbeat_has_expired(tmp_path):
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


def test_a_process_here_that_has_ended_is_let_go_at_once(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(tmp_path, Owner(pid=ended.pid, birth="1"))
    assert can_be_taken(tmp_path)


def test_a_later_process_with_the_same_id_is_not_the_owner(tmp_path):
    held_by(tmp_path, replace(Owner(), birth="1"))
    assert can_be_taken(tmp_path)


def test_a_process_of_another_namespace_is_not_looked_up_by_its_id(tmp_path):
    held_by(tmp_path, Owner(machine="here, in a container", pid=2**22 + 1))
    assert not can_be_taken(tmp_path)


def test_half_a_file_is_held_until_it_has_expired(tmp_path):
    held_by(tmp_path, FAR)
    (tmp_path / "000001.json").write_text('{"host": "fa')
    assert not can_be_taken(tmp_path)
    os.utime(tmp_path / "000001.json", (1, 1))
    assert can_be_taken(tmp_path)


def test_a_process_that_comes_late_with_an_old_view_withdraws(tmp_path, monkeypatch):
    held_by(tmp_path, FAR, silent_seconds=EXPIRY_SECONDS + 1, number=1)
    old_view = read_lease(tmp_path)
    (tmp_path / "000001.json").unlink()
    held_by(tmp_path, FAR, number=5)  # meanwhile four others came and went, and the fifth holds it
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
        assert not _Draft(tmp_path, Owner()).publish(tmp_path / "000001.json")


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
