"""Plain sbatch scripts at the time limit of a live cluster, in minutes, and other ways to another attempt."""

from datetime import datetime

import pytest

from tests.slurm.project import URGENT, Project

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has an uninterrupted run, `whole`, and all jobs on their way: the tests wait for them together."""
    cluster.manage("up", "SlurmctldParameters=preempt_send_user_signal")
    project = Project(tmp_path_factory.mktemp("sbatch_long"), cluster)
    node1, minute = "--nodelist=node1", ["--nodelist=node1", "--time=1"]
    warned = [*minute, "--signal=USR2@20", "--array=0-1", "--output=%x-%a.out"]
    budget = ["runtime.wall_clock_budget=auto", "runtime.requeue=never"]
    project.jobs = {
        "warned": project.submit("warned", *warned, step_seconds=0.2),  # 40 s, of which the warning leaves at most 36
        "budget": project.submit("budget", *minute, script="bare.sh", overrides=budget, step_seconds=1),
        "teardown": project.submit("teardown", node1, script="teardown.sh", overrides=["runtime.requeue=exit_code"]),
        "chain": project.submit("chain", node1, "--no-requeue"),
        "preempted": project.submit("preempted", "--nodelist=node2", "--signal=USR2@20"),
    }
    asked = {name: ["scancel", "--signal=USR2", project.jobs[name]] for name in ("teardown", "chain")}
    project.interrupt(**asked, preempted=URGENT)
    project.run_here("whole")
    yield project
    cluster.manage("up")


def test_an_array_whose_tasks_take_longer_than_the_limit_finishes_through_requeues(cluster, project):
    for task in (0, 1):
        name, facts = f"warned-{task}", cluster.wait(f"{project.jobs['warned']}_{task}")
        assert facts["JobState"] == "COMPLETED" and int(facts["Restarts"]) >= 1, project.log(name)
        assert project.stop_reasons(name) == ["requeue"] * int(facts["Restarts"]) + ["finished"]
        project.assert_same(name, "whole")


def test_a_job_stops_by_itself_before_a_limit_that_only_squeue_tells(cluster, project):
    facts = cluster.wait(project.jobs["budget"])
    log = project.log("budget")
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "99:0"), log
    assert "1m00s (from squeue)" in log
    assert project.stop_reasons("budget") == ["out_of_time"]
    limit = datetime.fromisoformat(facts["StartTime"]).timestamp() + 60
    assert 0 < limit - project.manifest("budget").stat().st_mtime < 15


def test_a_job_whose_signals_do_not_reach_python_is_told_what_to_write(cluster, project):
    cluster.wait(project.jobs["budget"])
    assert "in the job script, write: srun python" in project.log("budget")
    assert "srun python" not in project.log("warned-0")


def test_a_job_script_can_requeue_by_the_exit_code(cluster, project):
    facts = cluster.wait(project.jobs["teardown"])
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), project.log("teardown")
    project.assert_same("teardown", "whole")


def test_a_job_that_may_not_be_requeued_is_followed_by_another(cluster, project):
    facts = cluster.wait(project.jobs["chain"])
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "99:0"), project.log("chain")
    follower = project.log("chain").partition("is followed by job ")[2].partition(":")[0]
    assert cluster.wait(follower)["JobState"] == "COMPLETED", project.log("chain")
    project.assert_same("chain", "whole")


def test_a_preempted_job_may_be_warned_by_the_signal_that_it_asked_for(cluster, project):
    facts = cluster.wait(project.jobs["preempted"])
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), project.log("preempted")
    assert project.stop_reasons("preempted") == ["requeue", "finished"]
    project.assert_same("preempted", "whole")
