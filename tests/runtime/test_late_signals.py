"""Signals after a guard has closed: at the end of a process, and in scripts that continue."""

import random
import re
import signal
import subprocess
import sys
import time

import pytest

from framework.runtime import Guard
from tests.support.command import ROOT, environment

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
START = """
import atexit, os, signal, sys, time
from framework.runtime import Guard

signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def run(body):
    command = [sys.executable, "-c", START + body]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("end", ["pass", "sys.exit(99)"])
def test_a_signal_after_the_guard_has_closed_does_not_change_the_exit_code(number, end):
    result = run(f"""
atexit.register(os.kill, os.getpid(), {number})  # before the guard closes, so that it runs after what that registers

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid()):  # while modules are taken apart: Python's own handling has ended
        kill(pid, {number})

last = Last()
try:
    with Guard():
        {end}
finally:
    os.kill(os.getpid(), {number})
""")
    assert (result.returncode, result.stderr) == (99 if "exit" in end else 0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGINT, -2)])
def test_a_script_that_continues_after_its_guard_can_be_killed(number, code):
    result = run(f"""
import framework.runtime.late_signals as ending
ending._HELD_SECONDS = 0.2
with Guard():
    pass
os.kill(os.getpid(), signal.SIGUSR1)  # was the guard's alone
os.kill(os.getpid(), {number})  # is held back
print("held", flush=True)
time.sleep(30)
print("ignored")
""")
    assert (result.returncode, result.stdout) == (code, "held\n")


def test_a_handler_of_the_script_is_back_at_once():
    result = run("""
signal.signal(signal.SIGTERM, lambda number, frame: print("mine"))
with Guard():
    pass
os.kill(os.getpid(), signal.SIGTERM)
""")
    assert (result.returncode, result.stdout) == (0, "mine\n")


def test_a_forked_child_of_a_script_that_continues_can_be_terminated_immediately():
    result = run("""
with Guard():
    pass
if not (child := os.fork()):
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert result.stdout == "-15\n"


def test_another_guard_sees_what_was_there_before_the_first():
    before = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    try:
        for _ in range(2):
            with Guard() as guard:
                assert guard.previous_handler(signal.SIGUSR2) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_while_it_waits_for_a_child_at_its_exit_a_process_can_be_killed():
    result = run("""
import multiprocessing, threading
import framework.runtime.late_signals as ending
ending._HELD_SECONDS = 0
with Guard():
    pass

def kill(pid=os.getpid()):
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)

multiprocessing.get_context("fork").Process(target=time.sleep, args=(3,)).start()
threading.Thread(target=kill, daemon=True).start()
""")
    assert result.returncode == -signal.SIGTERM


README_LOOP = """
import sys, torch
model = torch.nn.Linear(2, 1)
optimizer, num_steps = torch.optim.Adam(model.parameters()), 30
def train_one_step(step):
    print(step, flush=True)
"""


@pytest.mark.campaign
def test_the_loop_in_the_readme_ends_as_decided_whenever_a_signal_comes(tmp_path):
    section = (ROOT / "framework/checkpoint/README.md").read_text().partition("## Use it in your own loop")[2]
    code = README_LOOP + re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    delays, ends = random.Random(0), []
    for number in [*SIGNALS] * 4:
        run_dir = tmp_path / str(len(ends))
        run_dir.mkdir()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        path = {**environment(), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-c", code], cwd=run_dir, env=path, **pipes) as process:
            while process.stdout.readline() != "29\n":
                assert process.poll() is None, process.stderr.read()
            time.sleep(delays.uniform(0, 0.3))
            process.send_signal(number)
            ends.append((number.name, process.wait(60), process.stderr.read()))
    assert {(code, said) for _, code, said in ends} <= {(0, ""), (99, ""), (130, "")}, ends
