import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from framework.errors import SimulationError
from framework.simulation import SimulationStore, run_simulations, simulate_block
from tests import toy_simulators as toy

REPOSITORY = Path(__file__).parents[1]
TIMEOUT_SECONDS = 120


@contextmanager
def started(directory, simulator, num_simulations=100_000, workers=2, setup=lambda: None):
    """Simulate in a process group of its own, which ends with the block; `setup` runs in the process first."""

    def before():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background is born deaf to Ctrl+C
        setup()

    arguments = [str(directory), simulator.__name__, str(num_simulations), str(workers)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.toy_process", *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    ) as process:
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
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, signum):
    with started(tmp_path, toy.slow) as process:
        wait_for(lambda: len(list(tmp_path.glob("*.npy"))) >= 4)
        children = children_of(process)
        assert len(children) >= 2
        send = os.killpg if signum == signal.SIGINT else os.kill  # a terminal sends Ctrl+C to the whole group
        send(process.pid, signum)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == -signum
        wait_for(lambda: not any(map(is_alive, children)))
    if signum == signal.SIGINT:
        assert errors.count("Traceback") == 1, "only the parent may speak up"
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
        assert process.returncode == 0, process.stderr.read()
    check(tmp_path, 400)


def test_dead_worker_is_reported_with_what_is_safe(tmp_path):
    store = SimulationStore(tmp_path, 3, {"theta": (2,), "x": (2,)})
    store.commit(0, 10, simulate_block(toy.theta_to_x(toy.first), 3, 0, 10))
    with pytest.raises(SimulationError) as caught:
        run_simulations(toy.builder(toy.kill_own_process), store, 100, 3, 2, 1.0)
    message = str(caught.value)
    assert "a simulation worker was killed by SIGKILL in simulations 1" in message and "out of memory?" in message
    assert "10 simulations are safe in it; mend this, then the same command with +resume=true goes on" in message


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_full_disk_is_reported_and_the_phase_goes_on_later(tmp_path, workers):
    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    with started(tmp_path, toy.first, 3000, workers, setup=limit_files) as process:
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    message = errors.strip().splitlines()[-1]
    num_safe = sum(SimulationStore.open(tmp_path).counts())
    assert f"SimulationError: {tmp_path}: File too large; " in message and num_safe > 0
    if workers == 1:
        assert message.endswith(
            f"{num_safe} simulations are safe in it; mend this, then the same command with +resume=true goes on"
        )
    assert not list(tmp_path.glob(".*"))
    with started(tmp_path, toy.first, 3000, 1) as process:
        process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0
    check(tmp_path, 3000)
