"""Plain sbatch scripts on a live cluster, interrupted in the middle of their training."""

import pytest

from tests.slurm.project import URGENT, Project


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has an uninterrupted run, `whole`, and all jobs on their way: the tests wait for them together."""
    project = Project(tmp_path_factory.mktemp("sbatch"), cluster)
    project.jobs = {
        "asked": project.submit("asked", "--nodelist=node1"),
        "cancelled": project.submit("cancelled", "--nodelist=node1"),
        "preempted": project.submit("preempted", "--nodelist=node2"),
        "requeued": project.submit("requeued", "--nodelist=node1"),
        "overtaken": project.submit("overtaken", "--nodelist=node1"),
    }
    jobs = project.jobs
    project.interrupt(
        asked=["scancel", "--signal=USR2", jobs["asked"]],
        cancelled=["scancel", jobs["cancelled"]],
        preempted=URGENT,
        requeued=["scontrol", "requeue", jobs["requeued"]],
        overtaken=["sh", "-c", f"scancel --signal=USR2 {jobs['overtaken']}; scontrol requeue {jobs['overtaken']}"],
    )
    project.run_here("whole")
    return project


def test_a_job_that_is_warned_by_usr2_requeues_itself_and_resumes(cluster, project):
    shown = cluster.wait(project.jobs["asked"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log("asked")
    project.assert_same("asked", "whole")
    assert project.stop_reasons("asked") == ["requeue", "finished"]


def test_a_preempted_job_saves_within_its_grace_time_and_resumes(cluster, project):
    shown = cluster.wait(project.jobs["preempted"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log("preempted")
    project.assert_same("preempted", "whole")
    assert project.stop_reasons("preempted") == ["terminated", "finished"]


def test_a_cancelled_job_is_saved_and_stays_cancelled(cluster, project):
    shown = cluster.wait(project.jobs["cancelled"])
    assert (shown["JobState"], shown["Restarts"]) == ("CANCELLED", "0")
    assert project.stop_reasons("cancelled") == ["terminated"]
    assert project.manifest("cancelled").exists()


@pytest.mark.parametrize(("name", "reason"), [("requeued", "terminated"), ("overtaken", "requeue")])
def test_a_job_that_a_person_requeues_is_saved_and_requeued_once(cluster, project, name, reason):
    shown = cluster.wait(project.jobs[name])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log(name)
    assert project.stop_reasons(name) == [reason, "finished"]
    project.assert_same(name, "whole")
    assert cluster.run("squeue", "--noheader", f"--name={name}", "--states=all", "--format=%A") == project.jobs[name]
    assert not (project.directory / "outputs" / name / "attempts/stuck").exists()  # nothing is held against it
