"""Several processes of one run: losing one is an error of one line, and a script's own process group is used."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from framework.errors import RankLostError
from framework.runtime.process_group import ProcessGroupContext, _pickled
from framework.runtime.rank_info import RankInfo


@pytest.fixture
def group():
    return ProcessGroupContext(RankInfo(rank=0, world_size=2))


def test_an_error_of_the_connection_says_in_a_line_that_another_is_gone(group):
    with pytest.raises(RankLostError) as raised, group.detect_lost_ranks():
        raise RuntimeError(
            "[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.7]:47. This is often …"
        )
    assert str(raised.value).endswith(": one of the others is gone (Connection closed by peer [10.0.0.7]:47)")


def test_an_error_of_the_users_network_stays_what_it_is(group):
    with pytest.raises(RuntimeError) as raised, group.detect_lost_ranks():
        raise RuntimeError("the skip connection has another shape")
    assert raised.type is RuntimeError


def test_large_arrays_are_shared_without_a_copy():
    array = np.arange(1000.0)
    text, *contents = _pickled({"x": array})
    assert len(text) < array.nbytes / 10
    (content,) = contents
    assert np.shares_memory(np.frombuffer(content), array)


ADOPTS = """
import sys, torch
import torch.distributed as dist
from framework.runtime import Save, connect_processes

rank, size, store, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=size)
if kind == "without gloo":  # as of a group of nccl: what is not ours to call fails
    def refuse(*args, group=None, real=dist.all_reduce, **kwargs):
        assert group is not None or args[2:], "a decision went over the script's group"
        return real(*args, group=group, **kwargs) if group else real(*args, **kwargs)
    dist.all_reduce = refuse
with connect_processes() as distributed:
    asked = distributed.all_reduce_stop(Save.NOW if rank == size - 1 else None)
    word = distributed.broadcast_object("a word" if rank == 0 else None)
    print(distributed.rank, distributed.world_size, asked, word, distributed.all_reduce_sum(rank), flush=True)
total = torch.ones(1)
dist.all_reduce(total, dist.ReduceOp.SUM, dist.group.WORLD)
print(dist.is_initialized(), int(total))
dist.destroy_process_group()
"""


def adopt(tmp_path, size, kind="gloo", **environment):
    """Run the script as so many processes; return what each says."""
    script = tmp_path / "adopts.py"
    script.write_text(ADOPTS)
    path = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, script, str(rank), str(size), tmp_path / "store", kind] for rank in range(size)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(c, env=os.environ | path | environment, **pipes) for c in commands]
    try:
        return [process.communicate(timeout=180)[0] for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.mark.parametrize(
    "environment",
    [pytest.param({}, marks=pytest.mark.campaign), {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}],
    ids=["none", "other"],
)
def test_a_group_that_the_script_has_made_is_used_whatever_the_environment_says_and_left(tmp_path, environment):
    first, second = adopt(tmp_path, 2, "without gloo", **environment)
    assert first == "0 2 Save.NOW a word 1.0\nTrue 2\n"
    assert second == "1 2 Save.NOW a word 1.0\nTrue 2\n"


@pytest.mark.campaign
def test_a_script_that_has_made_a_group_of_one_is_alone(tmp_path):
    assert adopt(tmp_path, 1, RANK="0", WORLD_SIZE="2") == ["0 1 Save.NOW a word 0\nTrue 1\n"]
