"""Two processes in one run directory: one owns it, and the other is refused with a reason."""

import json
import os
import signal

import pytest

from tests.support.command import run
from tests.support.slow_project import SlowProject


@pytest.fixture
def project(tmp_path):
    return SlowProject(tmp_path)


def status(project):
    result = run("framework.status", "--json", cwd=project.directory)
    assert result.returncode == 0, result.stderr
    (found,) = json.loads(result.stdout)
    return found


def test_a_second_process_is_refused_until_the_first_is_killed(project):
    project.hold("training")
    first = project.start()
    project.wait_for("training", first)
    assert status(project)["state"] == "training"
    refused = project.run("overwrite=true")
    assert refused.returncode == 3
    assert f"outputs/slow: in use by host {os.uname().nodename}, pid {first.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr
    first.send(signal.SIGKILL)
    first.wait()
    project.release("training")
    assert status(project)["state"] == "lost"
    assert project.run("+resume=true").returncode == 0
    found = status(project)
    assert (found["state"], found["node"], found["epoch"], found["attempts"]) == ("finished", "z", 12, 2)
    assert found["lost_seconds"] > 0
