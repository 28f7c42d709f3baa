"""Sweeps on a live cluster: requeued, cancelled, preempted and failing jobs of one command, and the command again."""

import pytest

from tests.slurm.cluster import wait_for
from tests.slurm.project import URGENT, Project
from tests.slurm.sweep import Sweep

pytestmark = pytest.mark.campaign

RATES = "optimizer.lr=0.001,0.002,13"
CHOOSY = """
class Choosy(PacedAdam):
    def __init__(self, params, lr=1e-3, **rest):
        if lr == 13:
            raise ValueError("that is no learning rate")
        super().__init__(params, lr=lr, **rest)
"""


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has uninterrupted runs, `whole` and `other`, and two sweeps whose jobs were interrupted."""
    project = Project(tmp_path_factory.mktemp("sweep"), cluster)
    simulator, experiment = project.directory / "simulator.py", project.directory / "conf/experiment/paced.yaml"
    simulator.write_text(simulator.read_text() + CHOOSY)
    choosy, later = "optimizer._target_=simulator.Choosy", "+hydra.launcher.additional_parameters.begin=now+5"
    project.rates = Sweep(project, "rates", choosy, RATES, "hydra.launcher.nodelist=node1", later)
    project.urgent = Sweep(project, "urgent", choosy, "optimizer.lr=0.001", "hydra.launcher.nodelist=node2")
    project.rates.start()
    array = wait_for(project.rates.job_id, "the sweep to be submitted")
    original = experiment.read_text()
    experiment.write_text(original.replace("std: [1, 1]", "std: [2, 2]"))  # while its jobs wait in the queue
    project.rates.interrupt(0, "scancel", "--signal=USR2", f"{array}_0")
    experiment.write_text(original)
    project.rates.interrupt(1, "scancel", f"{array}_1")
    project.urgent.start()
    project.urgent.interrupt("", *URGENT)
    project.run_here("whole", choosy, "optimizer.lr=0.001")
    project.run_here("other", choosy, "optimizer.lr=0.002")
    project.first = project.rates.end()
    project.rates.start()
    project.second = project.rates.end()
    return project


def test_a_job_is_requeued_and_ends_where_it_would_have_ended(project):
    assert project.rates.steps(0) == project.steps("whole"), project.first
    assert project.numbers_in(project.rates.run_dir("optimizer.lr=0.001")) == project.numbers("whole")


def test_what_failed_and_what_was_cancelled_is_named_and_the_exit_code_says_so(project):
    code, output = project.first
    assert code == 1, output
    assert "2 of 3 jobs did not finish" in output
    assert "optimizer.lr=13,simulation.num_simulations=300: failed: " in output
    assert "that is no learning rate" in output
    assert "optimizer.lr=0.002,simulation.num_simulations=300: stopped: terminated" in output


def test_the_command_again_submits_only_what_was_stopped_which_resumes(project):
    code, output = project.second
    assert code == 1, output
    assert "Submitted 1 jobs" in output
    assert "1 of 3 jobs did not finish" in output
    assert project.rates.steps(1) + project.rates.steps() == project.steps("other")
    assert project.numbers_in(project.rates.run_dir("optimizer.lr=0.002")) == project.numbers("other")
    states = {row["optimizer.lr"]: row["state"] for row in project.rates.rows()}
    assert states == {"0.001": "finished", "0.002": "finished", "13": "failed"}


def test_a_preempted_job_resumes_in_the_same_sweep(project):
    code, output = project.urgent.end()
    assert code == 0, output
    assert project.urgent.steps() == project.steps("whole"), output
    assert project.numbers_in(project.urgent.run_dir("optimizer.lr=0.001")) == project.numbers("whole")
