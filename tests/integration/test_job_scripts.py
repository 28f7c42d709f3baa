"""The example job scripts of PBS and LSF from a stop to the end of the run; the schedulers' commands are fakes.

They replay what is documented: signals to all processes of a job, who may requeue it, and what its next start sees.
"""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from tests.support.command import ROOT, environment
from tests.support.slow_project import OVERRIDES, SlowProject, same_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project with an uninterrupted run."""
    project = SlowProject(tmp_path_factory.mktemp("whole"))
    result = project.run("inference.report=false")
    assert result.returncode == 0, result.stderr
    return project


class Job:
    """A batch job on this machine: a script in a session of its own, with the scheduler's commands on PATH."""

    def __init__(self, directory):
        self.project = SlowProject(directory)
        self.directory, self.bin_dir = directory, directory / "bin"
        self.bin_dir.mkdir()
        self.command("python", f'exec {sys.executable} "$@"')
        self.process = None

    def command(self, name, body):
        """Put a command on PATH, which keeps how it was called."""
        (self.bin_dir / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {self.directory}/calls\n{body}\n')
        (self.bin_dir / name).chmod(0o755)

    def calls(self, name):
        """How a command was called."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(f"{name} ")]

    def start(self, script, **variables):
        """Start the job's script as the scheduler does."""
        overrides = " ".join([*OVERRIDES, "inference.report=false"])
        path = f"{self.bin_dir}{os.pathsep}{os.environ['PATH']}"
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", script],
                cwd=self.directory,
                env={**environment(), "PATH": path, "OVERRIDES": overrides, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.directory / "session").write_text(str(self.process.pid))

    def signal_in_training(self, number):
        """Signal all processes of the job in the middle of its training."""
        self.project.wait_for("training", None)
        os.killpg(self.process.pid, number)
        self.project.release("training")

    def wait(self):
        """Return the script's exit code."""
        try:
            return self.process.wait(120)
        finally:
            self.kill()

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def log(self):
        """What all attempts have printed."""
        return (
            "".join(path.read_text() for path in sorted(self.directory.glob("*.out")))
            + (self.directory / "log").read_text()
        )

    def stop_reasons(self):
        """Why each attempt has ended."""
        attempts = sorted(self.project.run_dir.glob("attempts/0*.json"))
        return [json.loads(path.read_text())["stop_reason"] for path in attempts]

    def assert_same(self, whole):
        """Check that the run has ended as the uninterrupted one, with no step taken twice."""
        assert same_run(self.project.run_dir, whole.run_dir)
        assert self.project.steps == whole.steps


@pytest.fixture
def job(tmp_path):
    job = Job(tmp_path)
    job.project.hold("training")
    yield job
    job.kill()


def date(seconds_from_now, form):
    return datetime.fromtimestamp(time.time() + seconds_from_now).strftime(form)


@pytest.mark.campaign
def test_a_job_of_pbs_at_its_walltime_is_followed_by_one_that_resumes(job, whole):
    spooled = job.directory / "12.head.SC"
    spooled.write_text((ROOT / "scripts/qsub-example").read_text())
    entries = {
        "Resource_List": {"select": "1:ncpus=4:mem=8gb", "walltime": "04:00:00"},
        "stime": date(-4 * 3600, "%a %b %d %H:%M:%S %Y"),
        "Variable_List": {"PBS_O_HOME": "/home/me", "OVERRIDES": "as in the environment"},
    }
    (job.directory / "qstat.json").write_text(json.dumps({"Jobs": {"12.head": entries}}))
    job.command("qstat", f"cat {job.directory}/qstat.json")
    job.command("qrerun", "echo qrerun: Unauthorized Request 12.head >&2; exit 159")
    job.command("qsub", f"cat > {job.directory}/13.head.SC; echo 13.head")
    variables = {"PBS_ENVIRONMENT": "PBS_BATCH", "PBS_O_WORKDIR": str(job.directory)}
    job.start(spooled, PBS_JOBID="12.head", **variables)
    job.signal_in_training(signal.SIGTERM)
    assert job.wait() == 99, job.log
    (submitted,) = job.calls("qsub")
    assert submitted.endswith("-W depend=afterany:12.head -v OVERRIDES,FRAMEWORK_REQUEUED=1")
    following = job.directory / "13.head.SC"
    assert following.read_text() == spooled.read_text()
    spooled.unlink()
    job.start(following, PBS_JOBID="13.head", FRAMEWORK_REQUEUED="1", **variables)
    assert job.wait() == 0, job.log
    assert job.stop_reasons() == ["terminated", "finished"]
    job.assert_same(whole)


def lsf_started(job, seconds_from_now):
    shown = date(seconds_from_now, "%a %b %d %H:%M:%S: Started on <hostB>, Execution Home </home/me>;")
    job.command("bjobs", f"[ $1 = -UF ] && echo '{shown}'")


@pytest.mark.campaign
def test_a_job_of_lsf_that_is_warned_is_requeued_and_resumes_in_the_same_job(job, whole):
    lsf_started(job, -3600)
    kill = "sleep 0.2; kill -INT -$session; sleep 0.2; kill -KILL -$session"
    job.command(
        "brequeue", f"session=$(cat {job.directory}/session); ({kill}) > /dev/null 2>&1 & echo is being requeued"
    )
    variables = {"LSB_JOBID": "12", "LSB_JOBINDEX": "0", "LSB_QUEUE": "normal"}
    job.start(ROOT / "scripts/bsub-example", **variables)
    job.signal_in_training(signal.SIGUSR2)
    assert job.wait() == -signal.SIGKILL, job.log
    assert job.calls("brequeue") == ["brequeue 12"]
    lsf_started(job, -1)
    job.start(ROOT / "scripts/bsub-example", **variables)
    assert job.wait() == 0, job.log
    assert job.stop_reasons() == ["requeue", "finished"]
    job.assert_same(whole)


def test_a_job_of_lsf_that_is_killed_by_a_person_is_saved_and_stays_killed(job):
    lsf_started(job, -3600)
    job.command("brequeue", "true")
    job.start(ROOT / "scripts/bsub-example", LSB_JOBID="12", LSB_JOBINDEX="0")
    job.signal_in_training(signal.SIGINT)
    assert job.wait() == 130, job.log
    assert job.calls("brequeue") == []
    assert job.project.has_checkpoint
