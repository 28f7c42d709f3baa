"""Whole commands with any one call on the run directory failed, or killed there: a one-line error, and nothing lost."""

import errno
import importlib
import os
import runpy
import signal
import sys

import pytest

from tests.faults import shim
from tests.faults.fault import Fault
from tests.faults.project import TRAIN, numbers
from tests.faults.section import ERRORS
from tests.support import warm

RESUME = [*TRAIN, "+resume=true"]
COMMANDS = {
    "status": (["framework.status"], "interrupted"),
    "sample": (["framework.sample", "outputs/run", "posterior", "inference.num_samples=3"], "finished"),
    "diff": (["framework.diff", "outputs/run"], "interrupted"),
    "resume": (RESUME, "interrupted"),
}
ENDS = {"status": {0}, "sample": {0, 1, 2, 4}, "diff": {0, 1, 2, 3, 4}, "resume": {0, 1, 2, 3, 4}}
SUITE, CAMPAIGN = 4, 20

pytestmark = pytest.mark.usefixtures("ptrace")


@pytest.fixture(autouse=True)
def imported(runs):
    """Have the process imported everything: commands run in its forks."""
    for name in warm.IMPORTED:
        importlib.import_module(name)


def command(runs, arguments, output):
    """Return the work of a command, whose output goes to a file."""

    def work(root, acknowledge):
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= {**warm.environment(), "PATH": ""}
        os.chdir(runs.project)
        sys.path.insert(0, str(runs.project))
        name, *sys.argv[1:] = arguments
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    return work


def points_of(whole):
    """Return every call with every error that it can have, and a kill before each that changes something."""
    kills = [Fault(number) for number, call in enumerate(whole.calls) if call.changes]
    errors = [
        Fault(number, error)
        for number, call in enumerate(whole.calls)
        for error in ERRORS.get(call.kind.removeprefix("failed "), ())
        if error != errno.EMFILE  # no file at all can be opened
    ]
    return kills, errors


def try_points(runs, name, limit, counted, rng):
    arguments, state = COMMANDS[name]
    output = runs.project.parent / "output"
    runs.restore(state)
    whole = shim.run(command(runs, arguments, output), runs.run_dir, record=True)
    assert whole.exit_code == 0, output.read_text()
    expected = numbers(runs.run_dir) if name == "resume" else {}
    kills, errors = points_of(whole)
    if name != "resume":
        kills = []
    problems = []
    for points, what in ((kills, "kill points"), (errors, "failed calls")):
        chosen = points if limit is None else rng.sample(points, min(limit, len(points)))
        counted(what, len(chosen))
        for fault in chosen:
            runs.restore(state)
            outcome = shim.run(command(runs, arguments, output), runs.run_dir, fault)
            text = output.read_text()
            call = (outcome if outcome.was_hit else whole).calls[fault.number]
            where = f"{name}: {fault}, {call.kind} {' '.join(call.paths)}".replace(f"{runs.run_dir}/", "")
            if "Traceback" in text or (fault.error and outcome.exit_code not in ENDS[name]):
                problems.append(f"{where}: ends with {outcome.exit_code}: {text[-300:]}")
            if name == "status" and "outputs/run" not in text:
                problems.append(f"{where}: the run is not shown")
            if name == "resume":
                again = runs.do(*RESUME)
                if again.returncode != 0 or numbers(runs.run_dir) != expected:
                    problems.append(f"{where}: the next start ends with {again.returncode}: {again.stderr[-300:]}")
    assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems[:20])


def test_status_of_which_a_call_fails_shows_the_run_all_the_same(runs, limit, counted, rng):
    try_points(runs, "status", limit(SUITE, CAMPAIGN), counted, rng)


@pytest.mark.campaign
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_which_any_call_fails_loses_nothing(runs, name, limit, counted, rng):
    try_points(runs, name, limit(SUITE, CAMPAIGN, 150), counted, rng)
