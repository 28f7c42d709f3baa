"""Plain sbatch scripts on a live cluster, interrupted in the middle of their training."""

import pytest

from tests.slurm.cluster import wait_for
from tests.slurm.project import NUM_STEPS, Project


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has an uninterrupted run, `whole`, and all jobs on their way: the tests wait for them together."""
    project = Project(tmp_path_factory.mktemp("sbatch"), cluster)
    on_node1 = "--nodelist=node1"
    project.jobs = {
        "asked": project.submit("asked", on_node1),
        "teardown": project.submit("teardown", on_node1, script="teardown.sh", overrides=["runtime.requeue=exit_code"]),
        "chain": project.submit("chain", on_node1, "--no-requeue"),
        "cancelled": project.submit("cancelled", on_node1),
        "preempted": project.submit("preempted", "--nodelist=node2"),
    }
    interruptions = {
        **{name: ["scancel", "--signal=USR2", project.jobs[name]] for name in ("asked", "teardown", "chain")},
        "cancelled": ["scancel", project.jobs["cancelled"]],
        "preempted": [
            "sbatch",
            "--partition=urgent",
            "--nodelist=node2",
            "--exclusive",
            "--output=/dev/null",
            "--wrap=true",
        ],
    }
    while interruptions:
        name = wait_for(lambda: next((n for n in interruptions if len(project.steps(n)) > NUM_STEPS / 4), None))
        cluster.run(*interruptions.pop(name))
    project.run_here("whole")
    return project


def has_gone_on_by_itself(project, name):
    """Tell whether an interrupted run went on, and took every step once and ended as if nothing had happened."""
    assert project.steps(name) == project.steps("whole")
    assert project.numbers(name) == project.numbers("whole")
    return project.stop_reasons(name)[-1] == "finished"


def test_a_job_that_is_warned_by_usr2_requeues_itself_and_goes_on(cluster, project):
    facts = cluster.wait(project.jobs["asked"])
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), project.log("asked")
    assert has_gone_on_by_itself(project, "asked")
    assert project.stop_reasons("asked") == ["requeue", "finished"]


def test_a_preempted_job_saves_within_its_grace_time_and_goes_on(cluster, project):
    facts = cluster.wait(project.jobs["preempted"])
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), project.log("preempted")
    assert has_gone_on_by_itself(project, "preempted")
    assert project.stop_reasons("preempted") == ["terminated", "finished"]


def test_a_job_script_can_requeue_by_the_exit_code(cluster, project):
    facts = cluster.wait(project.jobs["teardown"])
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), project.log("teardown")
    assert has_gone_on_by_itself(project, "teardown")


def test_a_job_that_may_not_be_requeued_is_followed_by_another(cluster, project):
    facts = cluster.wait(project.jobs["chain"])
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "99:0"), project.log("chain")
    follower = project.log("chain").partition("is followed by job ")[2].partition(":")[0]
    assert cluster.wait(follower)["JobState"] == "COMPLETED", project.log("chain")
    assert has_gone_on_by_itself(project, "chain")


def test_a_cancelled_job_is_saved_and_stays_cancelled(cluster, project):
    facts = cluster.wait(project.jobs["cancelled"])
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0")
    assert project.stop_reasons("cancelled") == ["terminated"]
    assert project.manifest("cancelled").exists()
