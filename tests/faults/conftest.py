"""How much of what can go wrong is tried: a seeded sample in the suite, more in the campaign, all on request.

`FRAMEWORK_FAULTS=all scripts/test -m campaign tests/faults` takes half an hour.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults import shim
from tests.faults.project import Runs

ALL = os.environ.get("FRAMEWORK_FAULTS") == "all"


@pytest.fixture
def limit(request):
    """Return a function of how many points are taken in the suite, the campaign, and on request; None is all."""
    is_campaign = request.node.get_closest_marker("campaign")
    return lambda short, campaign, most=None: (most if ALL else campaign) if is_campaign else short


@pytest.fixture
def counted(record_property):
    """Return a function that has the summary tell how many points were tried."""
    return lambda what, number: record_property("tried", [what, number])


@pytest.fixture
def memory_path():
    """A directory in memory, where the machine has one: what is fsynced matters here, not that it takes time."""
    place = Path("/dev/shm")
    where = place if os.access(place, os.W_OK) and shutil.disk_usage(place).free > 1 << 30 else None
    with tempfile.TemporaryDirectory(dir=where) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def _ptrace():
    return shim.works_here()


@pytest.fixture
def ptrace(_ptrace):
    """What needs to trace processes fails where that is forbidden in CI, and is skipped elsewhere."""
    if _ptrace:
        pytest.fail(_ptrace) if os.environ.get("CI") else pytest.skip(_ptrace)


@pytest.fixture
def rng(request):
    """Random choices, the same each time the test runs."""
    return random.Random(request.node.name)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A project with a run that has finished and one that was interrupted."""
    return Runs(tmp_path_factory.mktemp("faults"))
