"""Processes that multiprocessing starts while a guard is open: only their parent handles the job's signals."""

import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver, process, util
from pathlib import Path

import pytest

from framework.runtime import Guard
from framework.runtime.children import prepared_children

TIMEOUT_SECONDS = 60
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
START_METHODS = ["fork", *(pytest.param(name, marks=pytest.mark.campaign) for name in ("spawn", "forkserver"))]


@pytest.fixture(autouse=True)
def own_fork_server(monkeypatch):
    """A fork server that no other test uses: one that starts while a guard is open has its signals blocked."""
    server = forkserver.ForkServer()
    for name in ("ensure_running", "get_inherited_fds", "connect_to_new_process", "set_forkserver_preload"):
        monkeypatch.setattr(forkserver, name, getattr(server, name))
    monkeypatch.setattr(forkserver, "_forkserver", server)
    yield
    server._stop()


def from_elsewhere(number, pid):
    """Send a signal as a scheduler does, from another process than the parent."""
    subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)


def sit(pipe):
    pipe.send("ready")
    pipe.send(pipe.recv())


def handle_sigterm(pipe):
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    sit(pipe)


def write_of_programs(pipe):
    """Send what programs begin with that are started in several ways, and whether one can be terminated."""
    show = "grep -E 'Sig(Blk|Ign)' /proc/self/status"
    found = {"run": subprocess.run(show, shell=True, capture_output=True, text=True).stdout}
    found["preexec"] = subprocess.check_output(show, shell=True, text=True, preexec_fn=lambda: None)
    status = os.system(f"{show} > system; exit 3")
    assert os.waitstatus_to_exitcode(status) == 3
    found["system"] = Path("system").read_text()
    read, write = os.pipe()
    if not (pid := os.fork()):
        os.write(write, subprocess.check_output(show, shell=True))
        os._exit(0)
    os.waitpid(pid, 0)
    found["fork"] = os.read(read, 1000).decode()
    program = subprocess.Popen(["sleep", "60"])
    program.terminate()
    pipe.send((found, program.wait(TIMEOUT_SECONDS)))


def start_grandchild(pipe):
    child, _pipe = started(sit, "fork")
    pipe.send(child.pid)
    assert pipe.recv()
    child.terminate()
    child.join(TIMEOUT_SECONDS)
    pipe.send(child.exitcode)


def started(target, method, **settings):
    """Start a process that talks through a pipe; return both once it is there."""
    context = multiprocessing.get_context(method)
    pipe, remote = context.Pipe()
    child = context.Process(target=target, args=(remote,), daemon=False, **settings)
    child.start()
    remote.close()
    return child, pipe


@pytest.mark.parametrize("method", START_METHODS)
def test_what_a_scheduler_sends_to_a_child_does_not_end_it_and_its_parent_does(method):
    with Guard() as guard:
        child, pipe = started(sit, method)
        for number in SIGNALS:  # from its first moment, when it may still be importing
            from_elsewhere(number, child.pid)
        assert pipe.recv() == "ready"
        for number in SIGNALS:
            from_elsewhere(number, child.pid)
        pipe.send("still here")
        assert pipe.recv() == "still here"
        child.join(TIMEOUT_SECONDS)
        assert child.exitcode == 0

        child, pipe = started(sit, method)
        assert pipe.recv() == "ready"
        child.terminate()
        child.join(TIMEOUT_SECONDS)
        assert child.exitcode == -signal.SIGTERM
        assert guard.poll() is None


@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_that_is_still_starting_ends_when_its_parent_and_a_scheduler_have_told_it_to(method):
    with Guard():
        child, _ = started(sit, method)
        from_elsewhere(signal.SIGTERM, child.pid)
        child.terminate()
        child.join(TIMEOUT_SECONDS)
    assert child.exitcode == -signal.SIGTERM


def test_the_pools_of_multiprocessing_end_as_ever():
    others = set(multiprocessing.active_children())  # of libraries that other tests have used
    with Guard(), multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        workers = set(multiprocessing.active_children()) - others
    for worker in workers:
        worker.join(TIMEOUT_SECONDS)
    assert len(workers) == 2 and not any(worker.is_alive() for worker in workers)


def test_a_child_that_handles_sigterm_itself_hears_it_from_anybody():
    with Guard():
        for send in (os.kill, lambda pid, number: from_elsewhere(number, pid)):
            child, pipe = started(handle_sigterm, "fork")
            assert pipe.recv() == "ready"
            send(child.pid, signal.SIGTERM)  # it waits in a system call
            child.join(TIMEOUT_SECONDS)
            assert child.exitcode == 7


@pytest.mark.parametrize("method", START_METHODS)
def test_programs_that_a_child_starts_begin_as_they_do_without_a_guard(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    expected = subprocess.check_output("grep -E 'Sig(Blk|Ign)' /proc/self/status", shell=True, text=True)
    with Guard():
        assert subprocess.check_output("grep -E 'Sig(Blk|Ign)' /proc/self/status", shell=True, text=True) == expected
        child, pipe = started(write_of_programs, method)
        found, code = pipe.recv()
        child.join(TIMEOUT_SECONDS)
    assert found == dict.fromkeys(("run", "preexec", "system", "fork"), expected)
    assert code == -signal.SIGTERM
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_a_childs_own_children_are_its_own_to_end():
    with Guard():
        child, pipe = started(start_grandchild, "fork")
        from_elsewhere(signal.SIGTERM, pipe.recv())
        pipe.send(True)
        assert pipe.recv() == -signal.SIGTERM
        child.join(TIMEOUT_SECONDS)
    assert child.exitcode == 0


ORPHANS = """
import multiprocessing, os, signal, sys, time
from framework.runtime import Guard

def stay(is_blocked):
    if is_blocked:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
    time.sleep(600)

if __name__ == "__main__":
    with Guard():
        children = [multiprocessing.get_context(sys.argv[1]).Process(target=stay, args=(n == 1,)) for n in range(3)]
        for child in children:
            child.start()
        time.sleep(float(sys.argv[2]))
        print(*[child.pid for child in children], flush=True)
        os._exit(130)  # as after a second Ctrl+C
"""


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("after_seconds", [0, 1])
def test_no_child_outlives_its_parent_however_this_ends(tmp_path, method, after_seconds):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, script, method, str(after_seconds)]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS)
    assert result.returncode == 130
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while left := [pid for pid in result.stdout.split() if is_alive(pid)]:
        assert time.monotonic() < deadline, f"{left} are still there"
        time.sleep(0.05)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_stays_changed_once_the_last_guard_has_closed():
    before = process.BaseProcess.start, util.spawnv_passfds
    with Guard(), prepared_children():
        with Guard():
            pass
        assert process.BaseProcess.start is not before[0]
    assert (process.BaseProcess.start, util.spawnv_passfds) == before


LOADER = """
import sys, time, torch
from torch.utils.data import DataLoader, Dataset

from framework.checkpoint import CheckpointStore, CheckpointWriter, RandomState, load_all, state_of
from framework.runtime import Guard, Policy, Save

class Rows(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.full((2,), float(index))

def main(method, is_persistent, num_steps):
    model = torch.nn.Linear(2, 1)
    parts = {"model": model, "rng": RandomState()}
    store, step = CheckpointStore("checkpoints"), 0
    if newest := store.latest():
        load_all(parts, newest.load("state.pth"))
        step = newest.manifest["step"]
    num_steps += step
    with Guard(Policy()) as guard, CheckpointWriter(store, guard) as writer:
        loader = DataLoader(Rows(), 4, num_workers=2, multiprocessing_context=method, persistent_workers=is_persistent)
        while step < num_steps:
            for batch in loader:
                if asked := guard.poll():
                    writer.save({"state.pth": state_of(parts)}, {"step": step})
                    if asked is not Save.NOW:
                        writer.flush()
                        sys.exit(guard.exit_code(asked))
                    print("saved", flush=True)
                print("step", step, flush=True)
                step += 1
                if step >= num_steps:
                    break
        writer.save({"state.pth": state_of(parts)}, {"step": step})

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "True", int(sys.argv[3]))
"""


LEAK_WARNING = re.compile(
    r".*resource_tracker\.py:\d+: UserWarning: resource_tracker: "
    r"(There appear to be \d+ leaked semaphore objects to clean up at shutdown|'/mp-\w+': \[Errno 2\] .*)\n"
    r"  warnings\.warn\(.*\n"
)


def start_loader(directory, *arguments):
    script = directory / "loader.py"
    script.write_text(LOADER)
    command = [sys.executable, script, *map(str, arguments)]
    path = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=directory, env=path, start_new_session=True, **pipes)


def read_until(process, word):
    for line in process.stdout:
        if line.startswith(word):
            return
    pytest.fail(process.stderr.read())


def without_leak_warnings(stderr):
    """Return what is left of stderr without what any torch program says, now and then, when it leaves a DataLoader.

    A thread of the loader's queues may be frozen by the end of the interpreter after it has unlinked a semaphore and
    before it has told multiprocessing's resource tracker, which then takes it for leaked. A program of eight lines
    without this framework says the same once in some hundred runs on a busy machine.
    """
    return re.sub(LEAK_WARNING, "", stderr)


def members(group):
    """Return the processes of a process group."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            yield int(path.parent.name)


NORMAL = [("fork", False, signal.SIGTERM)]
CASES = [
    pytest.param(*case, marks=[] if case in NORMAL else [pytest.mark.campaign])
    for case in itertools.product(("fork", "spawn", "forkserver"), (False, True), SIGNALS)
]


@pytest.mark.parametrize(("method", "is_persistent", "number"), CASES)
def test_a_loop_over_a_data_loader_saves_whatever_signal_all_its_processes_get(tmp_path, method, is_persistent, number):
    with start_loader(tmp_path, method, is_persistent, 100_000) as process:
        read_until(process, "step 3")
        os.killpg(process.pid, number)
        if number == signal.SIGUSR1:
            read_until(process, "saved")
            read_until(process, "step")
            os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=2 * TIMEOUT_SECONDS)
        assert (process.returncode, without_leak_warnings(said)) == (130 if number == signal.SIGINT else 99, "")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while left := list(members(process.pid)):
        assert time.monotonic() < deadline, f"{left} are still there"
        time.sleep(0.05)
    with start_loader(tmp_path, method, is_persistent, 2) as process:
        out, said = process.communicate(timeout=2 * TIMEOUT_SECONDS)
    assert (process.returncode, without_leak_warnings(said)) == (0, "")
    assert not out.startswith("step 0\n"), "it continues where it was"
