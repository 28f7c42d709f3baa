"""`scripts/slurm-cluster up` completes what an earlier one that was killed has started."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import SCRIPT, Cluster, wait_for

pytestmark = pytest.mark.campaign


@pytest.fixture
def second():
    """A cluster that is not up yet, beside that of the other tests; sockets need a short path."""
    state_dir = Path(tempfile.mkdtemp(prefix="framework-slurm-", dir="/tmp"))
    cluster = Cluster(state_dir)
    yield cluster
    cluster.manage("down")
    shutil.rmtree(state_dir)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("daemon", ["munged", "mariadbd", "slurmdbd", "slurmctld"])
def test_up_continues_where_another_was_killed(second, tmp_path, daemon):
    up = subprocess.Popen([SCRIPT, "up"], env=second.environment)
    wait_for((second.state_dir / f"pids/{daemon}").exists, daemon)
    up.kill()
    assert up.wait() != 0
    second.manage("up")
    job = second.submit("--wait", "--output=/dev/null", "--wrap=true", cwd=tmp_path)
    assert second.run("sacct", "--noheader", "--allocations", f"--jobs={job}", "--format=State") == "COMPLETED"
