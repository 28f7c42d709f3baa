"""Worker processes of the simulation phase: none outlives its parent, and none dies unnoticed."""

import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from framework.errors import SimulationError
from framework.simulation import SimulationStore, run_simulations, simulate_block
from tests.support import toy_simulators as toy
from tests.support.command import ROOT, warm_start

TIMEOUT_SECONDS = 120


@contextmanager
def started(directory, simulator, num_simulations=100_000, workers=2, max_file_bytes=0):
    """Simulate in a process group of its own, which ends with the block."""
    arguments = [directory, simulator.__name__, num_simulations, workers, max_file_bytes]
    process = warm_start("tests.support.toy_process", *arguments, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return result


def children_of(process):
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def check(directory, num_simulations=None):
    """Check that what is on disk is what an undisturbed run would have made."""
    store = SimulationStore.open(directory)
    arrays = store.load(["theta", "x"])
    assert len(arrays["index"]) == sum(store.counts()) == (num_simulations or len(arrays["index"])) > 0
    expected = simulate_block(toy.theta_to_x(toy.first), 3, 0, int(arrays["index"].max()) + 1)
    np.testing.assert_array_equal(arrays["theta"], expected.values["theta"][arrays["index"]])
    np.testing.assert_array_equal(arrays["x"], arrays["theta"])


@pytest.mark.slow
@pytest.mark.parametrize("signum", [pytest.param(signal.SIGINT, marks=pytest.mark.campaign), signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, signum):
    with started(tmp_path, toy.slow) as process:
        wait_for(lambda: len(list(tmp_path.glob("*.npy"))) >= 4)
        children = children_of(process)
        assert len(children) >= 2
        send = os.killpg if signum == signal.SIGINT else os.kill  # a terminal sends Ctrl+C to the whole group
        send(process.pid, signum)
        result = process.wait(TIMEOUT_SECONDS)
        assert result.returncode == -signum
        wait_for(lambda: not any(map(is_alive, children)))
    if signum == signal.SIGINT:
        assert result.stderr.count("Traceback") == 1, "only the parent may speak up"
        assert not list(tmp_path.glob(".*"))
    check(tmp_path)


@pytest.mark.slow
def test_signals_for_the_parent_do_not_end_the_workers(tmp_path):
    with started(tmp_path, toy.slow, 400) as process:
        while process.poll() is None:  # from their first moment, when they are still importing
            for pid in children_of(process):
                with suppress(ProcessLookupError):  # it may just have ended
                    os.kill(pid, signal.SIGUSR2)
                    os.kill(pid, signal.SIGTERM)
            time.sleep(0.01)
        assert process.poll() == 0, process.output
    check(tmp_path, 400)


def test_dead_worker_is_reported_with_what_is_safe(tmp_path):
    store = SimulationStore(tmp_path, 3, {"theta": (2,), "x": (2,)})
    store.commit(0, 10, simulate_block(toy.theta_to_x(toy.first), 3, 0, 10))
    with pytest.raises(SimulationError) as caught:
        run_simulations(toy.builder(toy.kill_own_process), store, 100, 3, 2, 1.0)
    message = str(caught.value)
    assert "a simulation worker was killed by SIGKILL in simulations 1" in message and "out of memory" in message
    assert "10 simulations are safe on disk; fix this, then resume with +resume=true" in message


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_full_disk_is_reported_and_the_phase_continues_later(tmp_path, workers):
    with started(tmp_path, toy.first, 3000, workers, max_file_bytes=4096) as process:
        result = process.wait(TIMEOUT_SECONDS)
    message = result.stderr.strip().splitlines()[-1]
    num_safe = sum(SimulationStore.open(tmp_path).counts())
    assert f"SimulationError: {tmp_path}: File too large; " in message and num_safe > 0
    if workers == 1:
        assert message.endswith(f"{num_safe} simulations are safe on disk; fix this, then resume with +resume=true")
    assert not list(tmp_path.glob(".*"))
    with started(tmp_path, toy.first, 3000, 1) as process:
        assert process.wait(TIMEOUT_SECONDS).returncode == 0
    check(tmp_path, 3000)
