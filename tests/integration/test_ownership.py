"""Two processes and one run directory, and what is told of them."""

import json
import os
import signal
import time

from tests.integration.command import run, start_training, train

SETTINGS = ["loop.early_stop_patience=null", "inference.report=false"]
LONG = [*SETTINGS, "loop.num_epochs=100000"]


def status(cwd):
    (found,) = json.loads(run("framework.status", "--json", cwd=cwd).stdout)
    return found


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    first = start_training(*LONG, cwd=tmp_path)
    try:
        metrics = tmp_path / "outputs/two_moons/metrics.jsonl"
        while not metrics.exists() or metrics.read_text().count("\n") < 3:
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.01)
        assert status(tmp_path)["state"] == "training"
        refused = train(*LONG, "overwrite=true", cwd=tmp_path)
        assert refused.returncode == 3
        assert f"outputs/two_moons: in use by host {os.uname().nodename}, pid {first.pid}" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert status(tmp_path)["state"] == "lost"
    result = train(*SETTINGS, "+resume=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = status(tmp_path)
    assert (found["state"], found["attempts"]) == ("finished", 2)
    assert found["lost_seconds"] > 0
