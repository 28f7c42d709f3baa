"""The worked example for any torch loop, as a real process: however often it is stopped, the same weights come out."""

import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch

from experiments.linear_regression import train as example
from framework.checkpoint import CheckpointStore
from framework.runtime import Guard
from tests.support.command import ROOT, environment

SLOWLY = """
import runpy, sys, time
from torch.nn.modules.module import register_module_forward_pre_hook
pause = float(sys.argv.pop(1))
register_module_forward_pre_hook(lambda module, inputs: time.sleep(pause))
runpy.run_module("experiments.linear_regression.train", run_name="__main__", alter_sys=True)
"""


@contextmanager
def started(run_dir, *arguments, pause=0.01):
    """Run the example with a pause in each step."""
    command = [sys.executable, "-c", SLOWLY, str(pause), run_dir, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment(), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process, words):
    """Return what the process says until it has said `words`."""
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    pytest.fail(f"{words!r} is not in:\n{said}")


def saved_step(run_dir):
    return CheckpointStore(run_dir).latest().manifest["step"]


@pytest.mark.campaign
def test_stopped_in_every_way_it_ends_with_the_weights_of_an_uninterrupted_run(tmp_path):
    whole, run_dir = CheckpointStore(tmp_path / "whole"), tmp_path / "stopped"
    assert example.train(whole, Guard()) is None

    with started(run_dir) as process:
        said = read_until(process, "loss")
        assert "⏱ Wall-clock budget: off (--budget=auto asks the scheduler, 23h30m sets one)" in said
        process.send_signal(signal.SIGUSR1)
        read_until(process, "loss")
        read_until(process, "loss")
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert 25 <= saved_step(run_dir) <= 50

    seconds = 0.0  # until it trains
    for number, exit_code, word in [
        (signal.SIGTERM, 99, "Terminated"),
        (signal.SIGINT, 130, "Interrupted"),
        (signal.SIGUSR2, 99, "Stopped for requeue"),
    ]:
        before, start = saved_step(run_dir), time.monotonic()
        with started(run_dir) as process:
            read_until(process, f"↻ Resuming from step {before}/300\n")
            seconds = max(seconds, time.monotonic() - start)
            read_until(process, "loss")
            time.sleep(0.03)  # into an epoch
            process.send_signal(number)
            told = process.stdout.read()
            assert re.fullmatch(rf"⚠ {word} — saved to {run_dir}; run the same command to resume\n", told)
            assert process.wait(60) == exit_code
        assert before < saved_step(run_dir) < 300

    before = saved_step(run_dir)
    with started(run_dir, f"--budget={3 * seconds + 3}", pause=0.5) as process:
        said = process.stdout.read()
        assert "(from your setting, counted from the start of this process) — will checkpoint at" in said
        assert "⚠ Out of time — saved to" in said
        assert process.wait(60) == 99
    assert before < saved_step(run_dir) < 300

    with started(run_dir, pause=0) as process:
        read_until(process, "step 300/300")
        assert process.wait(60) == 0
    expected, state = (store.latest().load("state.pth") for store in (whole, CheckpointStore(run_dir)))
    assert state["rng"]["torch"] == expected["rng"]["torch"]
    assert str(state["optimizer"]["param_groups"]) == str(expected["optimizer"]["param_groups"])
    for value, wanted in zip(tensors(state), tensors(expected), strict=True):
        assert torch.equal(value, wanted)
    fitted = torch.cat([expected["model"]["weight"][0], expected["model"]["bias"]])
    torch.testing.assert_close(fitted, torch.tensor([2.0, -3.0, 0.5]), rtol=0, atol=0.02)


def test_the_loop_on_the_page_stops_and_resumes(tmp_path, monkeypatch):
    section = (ROOT / "framework/checkpoint/README.md").read_text().partition("## Use it in your own loop")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    model, trained = torch.nn.Linear(2, 1), []

    def train_one_step(step):
        trained.append(step)
        if len(trained) == 4:
            signal.raise_signal(signal.SIGTERM)

    names = {"sys": sys, "model": model, "optimizer": torch.optim.Adam(model.parameters()), "num_steps": 10}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        exec(code, names | {"train_one_step": train_one_step})
    assert stopped.value.code == 99
    exec(code, names | {"train_one_step": train_one_step})
    assert trained == list(range(10))
    assert saved_step("checkpoints") == 10


def tensors(state):
    """Return all tensors of a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    items = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for item in items for tensor in tensors(item)]
