"""The rank of this process, read from the environment that its launcher has set."""

import pytest

from framework.runtime import DistributedContext, Save, StopReason
from framework.runtime.rank_info import RankInfo, find_rank_info

SRUN = {
    "SLURM_JOB_ID": "812",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "localhost",
}


def test_alone_by_default():
    assert find_rank_info({}) == RankInfo(rank=0, world_size=1)


def test_torchrun_knows_the_ranks_and_where_they_meet():
    environment = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    assert find_rank_info(environment) == RankInfo(2, 4, 0, "env://")
    assert find_rank_info({**SRUN, "SLURM_STEP_NUM_TASKS": "1", **environment}) == RankInfo(2, 4, 0, "env://")


def test_the_tasks_of_an_srun_meet_on_their_first_node_at_a_port_that_all_know():
    infos = [find_rank_info({**SRUN, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % 2)}) for rank in range(4)]
    assert [(info.rank, info.local_rank) for info in infos] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert {info.world_size for info in infos} == {4}
    (init_method,) = {info.init_method for info in infos}
    host, port = init_method.removeprefix("tcp://").split(":")
    assert host == "localhost" and 20_000 <= int(port) < 32_000


@pytest.mark.parametrize(
    "other",
    [{"SLURM_JOB_ID": "813"}, {"SLURM_STEP_ID": "1"}, {"SLURM_RESTART_COUNT": "1"}],
    ids=["job", "step", "attempt"],
)
def test_each_job_step_and_attempt_meets_at_a_port_of_its_own(other):
    assert find_rank_info(SRUN | other).init_method != find_rank_info(SRUN).init_method


def test_the_jobs_of_an_array_on_one_node_have_ports_of_their_own():
    jobs = range(812, 812 + 1000)
    assert len({find_rank_info({**SRUN, "SLURM_JOB_ID": str(job)}).init_method for job in jobs}) == len(jobs)


def test_a_job_script_without_srun_is_alone_whatever_the_number_of_its_tasks():
    assert find_rank_info({"SLURM_JOB_ID": "812", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}).world_size == 1


def test_host_and_port_can_be_given():
    given = find_rank_info({**SRUN, "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "4711"})
    assert given.init_method == "tcp://10.0.0.7:4711"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node[003-007,12]", "node003"),
        ("n[2,5]-ib,other", "n2-ib"),
        ("a,b[1-2]", "a"),
    ],
    ids=["one", "range", "suffix", "list"],
)
def test_a_node_that_only_slurm_knows_by_name_has_an_address(nodes, first, commands):
    commands("scontrol", {f"show node {first}": f"NodeName={first} Arch=x86_64\n   NodeAddr=10.1.2.3 NodeHostName=x"})
    environment = {**SRUN, "SLURM_STEP_NODELIST": nodes}
    assert find_rank_info(environment).init_method.startswith("tcp://10.1.2.3:")


def test_the_local_tasks_of_a_sweep_meet_on_this_machine():
    environment = {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_LOCALID": "1"}
    info = find_rank_info({**environment, "SUBMITIT_LOCAL_JOB_ID": "77"})
    assert (info.rank, info.world_size) == (1, 2) and info.init_method.startswith("tcp://127.0.0.1:")


def test_the_parts_of_a_batch_are_all_of_it_and_differ_by_one_at_most():
    contexts = [DistributedContext() for _ in range(4)]
    for rank, each in enumerate(contexts):
        each.rank, each.world_size = rank, 4
    parts = [list(range(50))[each.local_slice(50)] for each in contexts]
    assert [item for part in parts for item in part] == list(range(50))
    assert {len(part) for part in parts} == {12, 13}


def test_one_process_agrees_with_itself():
    for asked in (None, Save.NOW, StopReason.TERMINATED):
        assert DistributedContext().all_reduce_stop(asked) is asked
