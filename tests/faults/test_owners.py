"""An owner that is suspended at any call of a save, and wakes up after another process has taken over the run."""

import os
from dataclasses import replace

import pytest

from framework.checkpoint import CheckpointStore
from framework.errors import ResumeRefusedError
from framework.runtime.lease import Lease, read_lease
from tests.faults import shim
from tests.faults.fault import Fault
from tests.faults.sections_stores import FACTS, files, value_of

SUITE, CAMPAIGN = 8, 60
OTHERS = 100  # added to the values that the second saves

pytestmark = pytest.mark.usefixtures("ptrace")


def lease_of(root, start_number):
    """Return the lease of one start of a job; its scheduler has ended the earlier ones, as far as it knows."""
    lease = Lease(root / "lease", heartbeat_seconds=600 if start_number == 0 else 0.01)
    lease._me = replace(lease._me, job_id="812", start_number=start_number)
    return lease


def save(root, lease, values, acknowledge=lambda value: None):
    store = CheckpointStore(root / "checkpoints", check_owner=lease.check)
    store.latest()
    for value in values:
        store.commit(files(value), FACTS)
        acknowledge(value)


def first(root, acknowledge):
    with lease_of(root, 0) as lease:
        acknowledge(-lease.number)
        save(root, lease, [1, 2, 3], acknowledge)


def second(root):
    """Take the run over, save, and keep holding it, in another process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lease = lease_of(root, 1)
            lease.__enter__()
            save(root, lease, [OTHERS + 1])
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, "the second cannot take over, or save"


def stand_still(directory, number):
    """Have the first stand still before that call; return how it ended and who has the run now."""
    directory.mkdir()
    outcome = shim.run(first, directory, Fault(number, meanwhile=lambda: second(directory)))
    assert outcome.was_hit and outcome.is_clean, outcome.raised
    return outcome


def check(directory, outcome):
    held = [-value for value in outcome.acknowledged if value < 0]
    owner = read_lease(directory / "lease").number
    newest = CheckpointStore(directory / "checkpoints").latest()
    value = value_of(newest)
    if held and held[0] < owner:  # it was the second's from then on
        assert value == OTHERS + 1, (value, outcome.acknowledged)
        assert outcome.exit_code in (1, 3) or outcome.acknowledged[-1] == 3, outcome.exit_code
    elif outcome.exit_code == 0:  # the second had come before it, and was gone
        assert value == 3
    else:
        assert outcome.exit_code == ResumeRefusedError.exit_code and value == OTHERS + 1
    with lease_of(directory, 2) as lease:
        save(directory, lease, [9])
    assert value_of(CheckpointStore(directory / "checkpoints").latest()) == 9


def every_point(directory, limit, counted):
    directory.mkdir()
    whole = shim.run(first, directory)
    assert whole.exit_code == 0, whole.raised
    points = range(len(whole.calls))
    looks = [n for n, call in enumerate(whole.calls) if call.kind == "list" and call.paths[0].endswith("/checkpoints")]
    chosen = points if limit is None else {*points[:: max(1, len(points) // limit)], *looks[::4]}
    problems = []
    for number in sorted(chosen):
        place = directory / str(number)
        try:
            check(place, stand_still(place, number))
        except AssertionError as error:
            call = whole.calls[number]
            problems.append(f"before call {number}, {call.kind} {' '.join(call.paths)}: {error}")
    counted("changes of owner", len(chosen))
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems[:20])


def test_an_owner_that_stood_still_spoils_nothing_of_the_next(memory_path, limit, counted):
    every_point(memory_path / "owners", limit(SUITE, CAMPAIGN), counted)


@pytest.mark.campaign
def test_an_owner_that_stood_still_at_any_call_spoils_nothing_of_the_next(memory_path, limit, counted):
    every_point(memory_path / "owners", limit(SUITE, CAMPAIGN), counted)
