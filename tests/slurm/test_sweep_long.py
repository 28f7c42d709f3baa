"""A sweep whose jobs need several times their limit, in minutes."""

import pytest

from tests.slurm.project import Project
from tests.slurm.sweep import Sweep

pytestmark = pytest.mark.campaign

SEEDS = range(4)
LIMITS = ["hydra.launcher.time=1m", "hydra.launcher.signal_lead=10s"]


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory):
    """Has the uninterrupted runs, `whole-<seed>`, and a sweep that has ended."""
    project = Project(tmp_path_factory.mktemp("sweep_long"), cluster)
    project.sweep = Sweep(project, "long", "seed=0,1,2,3", *LIMITS, step_seconds=0.75)
    project.sweep.start()
    for seed in SEEDS:
        project.run_here(f"whole-{seed}", f"seed={seed}")
    project.code, project.output = project.sweep.end(seconds=1500)
    return project


def test_four_jobs_of_two_and_a_half_minutes_finish_through_requeues_at_one_minute(project):
    assert project.code == 0, project.output
    for seed in SEEDS:
        reasons = project.stop_reasons_in(project.sweep.run_dir(f"seed={seed}"))
        num_requeues = reasons.index("finished")
        assert num_requeues >= 2
        # A busy Slurm may start a job once more that has just ended, which then has nothing to do.
        assert reasons == ["requeue"] * num_requeues + ["finished"] * (len(reasons) - num_requeues)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_takes_every_step_once_and_ends_as_without_a_limit(project, seed):
    assert project.sweep.steps(seed) == project.steps(f"whole-{seed}")
    assert project.numbers_in(project.sweep.run_dir(f"seed={seed}")) == project.numbers(f"whole-{seed}")
