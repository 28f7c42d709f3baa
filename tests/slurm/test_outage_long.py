"""A live cluster that loses its controller, the daemon of a node, or a whole node."""

import os
import signal
import time

import pytest

from tests.slurm.project import Project

pytestmark = pytest.mark.campaign

OFTEN = ["runtime.periodic_checkpoint_every=3"]


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has an uninterrupted run, `whole`, and jobs that have lived through all of it."""
    project = Project(tmp_path_factory.mktemp("outage"), cluster)
    cluster.run("scontrol", "update", "NodeName=node1", "State=DRAIN", "Reason=test")
    project.jobs = {
        "lost": project.submit("lost", overrides=OFTEN, step_seconds=0.2),
        "orphaned": project.submit("orphaned", overrides=OFTEN, step_seconds=0.35),  # it has to outlive its node
    }
    for job in project.jobs.values():
        assert cluster.wait(job, "RUNNING")["BatchHost"] == "node2"
    cluster.run("scontrol", "update", "NodeName=node1", "State=RESUME")
    project.jobs["left"] = project.submit("left", "--nodelist=node1", step_seconds=0.1)
    project.wait_for_training("left")
    lose_controller(project)
    lose_node(project)
    yield project
    cluster.manage("up")


def lose_controller(project):
    """Have a job ask for its requeue while the controller is away, and kill it again while the job is in the queue."""
    project.cluster.kill("slurmctld")
    os.kill(project.pid("left"), signal.SIGUSR2)
    until = time.monotonic() + 10
    project.run_here("whole")
    time.sleep(max(until - time.monotonic(), 0))
    project.cluster.manage("up")
    project.cluster.wait(project.jobs["left"], "PENDING")
    project.cluster.kill("slurmctld")
    project.cluster.manage("up")


def lose_node(project):
    """Kill the node's daemon and all of one job, but leave the other job's processes to themselves."""
    project.cluster.kill("node2")
    project.cluster.kill_processes(project.jobs["lost"])
    project.lost_steps = len(project.steps("lost")) - project.saved_step("lost")


def test_a_requeue_gets_through_a_controller_that_restarts_before_and_after_it(cluster, project):
    shown = cluster.wait(project.jobs["left"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log("left")
    assert project.stop_reasons("left") == ["requeue", "finished"]
    project.assert_same("left", "whole")


def test_a_job_whose_node_is_lost_resumes_elsewhere_from_its_last_checkpoint(cluster, project):
    shown = cluster.wait(project.jobs["lost"])
    assert (shown["JobState"], shown["Restarts"], shown["BatchHost"]) == ("COMPLETED", "1", "node1"), shown
    assert project.stop_reasons("lost") == ["lost", "finished"]
    assert project.numbers("lost") == project.numbers("whole")
    steps, whole = project.steps("lost"), project.steps("whole")
    assert len(steps) == len(whole) + project.lost_steps
    assert list(dict.fromkeys(steps)) == whole
    assert project.lost_steps < (3 + 5) / 0.2  # the time between two checkpoints, and to write one


def test_a_job_that_lives_on_where_slurm_has_lost_it_ends_before_its_next_attempt_begins(cluster, project):
    shown = cluster.wait(project.jobs["orphaned"])
    assert (shown["JobState"], shown["Restarts"], shown["BatchHost"]) == ("COMPLETED", "1", "node1"), shown
    assert project.stop_reasons("orphaned") == ["lost", "finished"]
    assert project.numbers("orphaned") == project.numbers("whole")
    steps, whole = project.steps("orphaned"), project.steps("whole")
    last_of_first = next(i for i, step in enumerate(steps) if step in steps[:i]) if len(steps) > len(whole) else 0
    assert steps[last_of_first:] == whole[len(whole) - len(steps[last_of_first:]) :]  # no step of the first in between
    assert cluster.processes(project.jobs["orphaned"]) == []
