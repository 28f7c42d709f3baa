"""A cluster for the tests here, brought up by the test process that runs them and taken down by it."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

FOLDER = "FRAMEWORK_SLURM_DIR"  # set it to use a cluster of one's own, which is left as it is


def pytest_collection_modifyitems(items):
    """Put what waits for Slurm first, so that one test process begins with it and others take over its other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)


@pytest.fixture(scope="session")
def cluster():
    """The live cluster; where there can be none the tests are skipped, which is a failure where CI=1."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        give_up("a Slurm cluster on this machine needs root and apt-get")
    state_dir = Path(os.environ.get(FOLDER) or tempfile.mkdtemp(prefix="framework-slurm-", dir="/tmp"))
    cluster = Cluster(state_dir)
    try:
        if problem := cluster.bring_up():
            give_up(problem)
        yield cluster
    finally:
        if FOLDER not in os.environ:
            cluster.manage("down")
            shutil.rmtree(state_dir)


def give_up(reason):
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
