"""One run on two nodes of a live cluster, preempted there and resumed by a single task."""

import numpy as np
import pytest

from tests.slurm.cluster import wait_for
from tests.slurm.project import URGENT
from tests.support.recording import NUM_STEPS, OVERRIDES, RecordingProject, trained_alone
from tests.support.slow_project import same_run

SCRIPT = f"""#!/usr/bin/env bash
#SBATCH --requeue --open-mode=append --output=%x.out
srun --label --kill-on-bad-exit=0 python -u -m framework.train {" ".join(OVERRIDES)} "$@"
"""
pytestmark = pytest.mark.campaign

TWO_NODES = ("--nodes=2", "--ntasks=2", "--ntasks-per-node=1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained_alone(tmp_path_factory.mktemp("alone") / "project")


@pytest.fixture
def project(tmp_path):
    project = RecordingProject(tmp_path / "project")
    (project.directory / "job.sh").write_text(SCRIPT)
    return project


def submit(cluster, project, name, *options, overrides=(), **variables):
    """Submit the job script; `variables` are added to the job's environment."""
    return cluster.submit(f"--job-name={name}", *options, "job.sh", *overrides, cwd=project.directory, **variables)


def log_of(project, name):
    return (project.directory / f"{name}.out").read_text()


def num_steps(project):
    path = project.directory / "steps-0"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_job_on_two_nodes_that_is_preempted_resumes_with_one_task(cluster, project, alone):
    job = submit(cluster, project, "two", *TWO_NODES, overrides=["runtime.requeue=never"], STEP_SECONDS="0.2")
    wait_for(lambda: num_steps(project) > NUM_STEPS / 4, "training")
    cluster.run(*URGENT)
    cluster.wait(job)
    log = log_of(project, "two")
    assert "0: ⚠ Terminated at epoch" in log and "Traceback" not in log, log
    before = project.steps(2)
    assert NUM_STEPS / 4 < len(before) < NUM_STEPS

    job = submit(cluster, project, "one", "--ntasks=1", overrides=["+resume=true"])
    assert cluster.wait(job)["JobState"] == "COMPLETED", log_of(project, "one")
    assert "the number of processes has changed from 2 to 1" in log_of(project, "one")
    after = project.steps(1, first=len(before))
    assert before + after == alone.steps(1)  # so that none is seen twice in an epoch
    np.testing.assert_allclose(project.losses(), alone.losses(), rtol=1e-4)


def test_a_job_on_two_nodes_that_is_warned_requeues_once_and_resumes_bit_for_bit(cluster, project, tmp_path):
    whole = RecordingProject(tmp_path / "whole")
    job = submit(cluster, project, "pair", *TWO_NODES, STEP_SECONDS="0.2", DROPOUT="0.3")
    wait_for(lambda: num_steps(project) > NUM_STEPS / 4, "training")
    cluster.run("scancel", "--signal=USR2", job)
    assert [result.returncode for result in whole.run(2, DROPOUT="0.3")] == [0, 0]
    shown, log = cluster.wait(job), log_of(project, "pair")
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), log
    assert log.count("is requeued; the run resumes automatically") == 1 and "bit-for-bit" not in log
    assert project.steps(2) == whole.steps(2)
    assert same_run(project.run_dir, whole.run_dir)
