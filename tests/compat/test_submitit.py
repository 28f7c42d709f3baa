"""What `framework/compat/submitit.py` expects of submitit's jobs and its local executor."""

import os
import signal
import sys
import time

import pytest
from submitit.local import local

from framework.compat import submitit as compat
from tests.support.command import environment

WAIT_SECONDS = 60


def job_environment(monkeypatch, rank):
    for name, value in {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": "123",
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
    }.items():
        monkeypatch.setenv(name, value)


def test_a_job_that_is_requeued_ends_with_the_code_that_says_so(monkeypatch):
    """If this fails, a local sweep stops at its time limit: see how `JobEnvironment` requeues a job now."""
    job_environment(monkeypatch, rank=0)
    assert compat.is_local()
    with pytest.raises(SystemExit) as end:
        compat.requeue()
    assert end.value.code == local.LOCAL_REQUEUE_RETURN_CODE and end.value.code in compat.REQUEUE_CODES


def test_the_other_processes_of_a_job_do_not_requeue_it(monkeypatch):
    """If this fails, a job is requeued once for each of its processes."""
    job_environment(monkeypatch, rank=1)
    assert compat.requeue() is None


def test_on_slurm_a_job_is_requeued_by_scontrol(commands, monkeypatch):
    """If this fails, see how `SlurmJobEnvironment` requeues a job now."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_PROCID", "0")
    commands("scontrol", {"requeue 77": ""})
    assert not compat.is_local()
    with pytest.raises(SystemExit) as end:
        compat.requeue()
    assert end.value.code == -1 and commands.calls() == ["scontrol requeue 77"]


CONTROLLER = """
import os, signal, sys
from pathlib import Path
from framework.compat.submitit import ForwardingController

class Recorder(ForwardingController):
    def forward(self, number):
        with Path(self.folder, "forwarded").open("a") as file:
            print(int(number), file=file)
        super().forward(number)

Path(sys.argv[1], "session").write_text(str(os.getsid(0)))
Recorder(Path(sys.argv[1])).run(max_retry=2)
"""


@pytest.fixture
def executor(tmp_path, monkeypatch):
    (tmp_path / "recording_controller.py").write_text(CONTROLLER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]]))
    made = compat.SessionExecutor(tmp_path / "jobs", "recording_controller")
    made.update_parameters(timeout_min=10, signal_delay_s=30, tasks_per_node=1, setup=["export CANARY=sings"])
    return made


def wait_until(condition):
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_job_starts_in_a_session_of_its_own_and_is_passed_the_signals_of_its_parent(executor, tmp_path):
    """If this fails, Ctrl+C at a sweep kills its jobs, or SIGTERM does not reach them.

    Compare `SessionExecutor` with `LocalExecutor._submit_command` and `start_controller` of the new version, and
    `ForwardingController` with its `Controller`.
    """
    job = executor.submit(_wait_for_sigterm, str(tmp_path / "begun"))
    process = compat.process_of(job)
    assert process is not None and str(process.pid) == job.job_id
    wait_until((tmp_path / "begun").exists)
    assert int((tmp_path / "jobs/session").read_text()) == process.pid != os.getsid(0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_SECONDS) == 0 and job.result() == "sings"
    assert (tmp_path / "jobs/forwarded").read_text().split()[0] == str(int(signal.SIGTERM))
    lines = job.paths.stdout.read_text().splitlines()
    assert [line for line in lines if not compat.is_own_line(line)] == ["an error"], (
        "its own lines begin in another way"
    )


def _wait_for_sigterm(begun):
    told = []
    print("an error", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    open(begun, "w").close()  # noqa: PTH123
    while not told:
        time.sleep(0.05)
    return os.environ["CANARY"]


def test_a_job_of_another_process_has_no_process_here(tmp_path):
    """If this fails, see where `LocalJob` keeps the process that it has started."""
    assert compat.process_of(local.LocalJob(tmp_path, "1")) is None
