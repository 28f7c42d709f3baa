"""Plain sbatch scripts at the time limit of a live cluster, in minutes, and other ways to get another attempt."""

from datetime import datetime

import pytest

from tests.slurm.project import URGENT, Project

pytestmark = pytest.mark.campaign

NEVER = "runtime.requeue=never"


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has an uninterrupted run, `whole`, and all jobs on their way: the tests wait for them together."""
    cluster.manage("up", "SlurmctldParameters=preempt_send_user_signal")
    project = Project(tmp_path_factory.mktemp("sbatch_long"), cluster)
    node1, minute = "--nodelist=node1", ["--nodelist=node1", "--time=1"]
    warned = [*minute, "--signal=USR2@20", "--array=0-1", "--output=%x-%a.out"]
    auto = ["runtime.wall_clock_budget=auto"]
    project.jobs = {
        "warned": project.submit("warned", *warned, step_seconds=0.2),  # 40 s, of which the warning leaves at most 36
        "budget": project.submit("budget", *minute, script="bare.sh", overrides=[*auto, NEVER], step_seconds=1),
        "teardown": project.submit("teardown", node1, script="teardown.sh", overrides=["runtime.requeue=exit_code"]),
        "chain": project.submit("chain", node1, "--no-requeue"),
        "preempted": project.submit("preempted", "--nodelist=node2", "--signal=USR2@20"),
        "lowered": project.submit("lowered", node1, overrides=auto, step_seconds=0.5),  # Slurm may be late
        "raised": project.submit("raised", *minute, overrides=auto, step_seconds=0.35),
    }
    asked = {name: ["scancel", "--signal=USR2", project.jobs[name]] for name in ("teardown", "chain")}
    limits = {name: ["scontrol", "update", f"JobId={project.jobs[name]}"] for name in ("lowered", "raised")}
    limits["lowered"].append("TimeLimit=1")
    limits["raised"].append("TimeLimit=5")
    project.interrupt(**asked, preempted=URGENT, **limits)
    project.run_here("whole")
    yield project
    cluster.manage("up")


def test_an_array_whose_tasks_take_longer_than_the_limit_finishes_through_requeues(cluster, project):
    for task in (0, 1):
        name, shown = f"warned-{task}", cluster.wait(f"{project.jobs['warned']}_{task}")
        assert shown["JobState"] == "COMPLETED" and int(shown["Restarts"]) >= 1, project.log(name)
        assert project.stop_reasons(name) == ["requeue"] * int(shown["Restarts"]) + ["finished"]
        project.assert_same(name, "whole")


def test_a_job_stops_by_itself_before_a_limit_that_only_squeue_tells(cluster, project):
    shown = cluster.wait(project.jobs["budget"])
    log = project.log("budget")
    assert (shown["JobState"], shown["ExitCode"]) == ("FAILED", "99:0"), log
    assert "1m00s (from squeue)" in log
    assert project.stop_reasons("budget") == ["out_of_time"]
    limit = datetime.fromisoformat(shown["StartTime"]).timestamp() + 60
    assert 0 < limit - project.manifest("budget").stat().st_mtime < 15


def test_a_job_whose_limit_is_lowered_saves_at_the_new_one_and_is_requeued(cluster, project):
    shown = cluster.wait(project.jobs["lowered"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log("lowered")
    assert project.stop_reasons("lowered") == ["terminated", "finished"]
    project.assert_same("lowered", "whole")


def test_a_job_whose_limit_is_raised_does_not_stop_at_the_old_one(cluster, project):
    shown = cluster.wait(project.jobs["raised"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "0"), project.log("raised")
    assert "1m00s (from squeue)" in project.log("raised")
    assert "The allocation's end has moved by +4 min" in project.log("raised")
    assert project.stop_reasons("raised") == ["finished"]
    project.assert_same("raised", "whole")


def test_a_job_whose_signals_do_not_reach_python_is_told_what_to_write(cluster, project):
    cluster.wait(project.jobs["budget"])
    assert "in the job script, write: srun python" in project.log("budget")
    assert "srun python" not in project.log("warned-0")


def test_a_job_script_can_requeue_by_the_exit_code(cluster, project):
    shown = cluster.wait(project.jobs["teardown"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log("teardown")
    project.assert_same("teardown", "whole")


def test_a_job_that_may_not_be_requeued_is_followed_by_another(cluster, project):
    shown = cluster.wait(project.jobs["chain"])
    assert (shown["JobState"], shown["ExitCode"]) == ("FAILED", "99:0"), project.log("chain")
    follower = project.log("chain").partition("is followed by job ")[2].partition(";")[0]
    assert cluster.wait(follower)["JobState"] == "COMPLETED", project.log("chain")
    project.assert_same("chain", "whole")


def test_a_preempted_job_may_be_warned_by_the_signal_that_it_asked_for(cluster, project):
    shown = cluster.wait(project.jobs["preempted"])
    assert (shown["JobState"], shown["Restarts"]) == ("COMPLETED", "1"), project.log("preempted")
    assert project.stop_reasons("preempted") == ["requeue", "finished"]
    project.assert_same("preempted", "whole")
