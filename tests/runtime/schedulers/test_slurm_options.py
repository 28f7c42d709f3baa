"""Which sbatch options of a job are passed on to its follow-up job."""

import pytest

from framework.runtime.schedulers.slurm_options import options_of

SHOWN = """JobId=5 JobName=my job
   Priority=4294901756 Nice=0 Account=lab QOS=high
   JobState=RUNNING Reason=None Dependency=(null)
   RunTime=00:00:01 TimeLimit=00:03:00 TimeMin=N/A
   Partition=gpu AllocNode:Sid=localhost:25343
   ReqNodeList=(null) ExcNodeList=node7
   NodeList=node[1-2]
   NumNodes=2 NumCPUs=4 NumTasks=4 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   TRES=cpu=4,mem=200M,node=2,billing=4
   Socks/Node=* NtasksPerN:B:S:C=2:0:*:* CoreSpec=*
   MinCPUsNode=2 MinMemoryNode=100M MinTmpDiskNode=0
   Features=a100&nvlink DelayBoot=00:00:00
   OverSubscribe=NO Contiguous=0 Licenses=(null) Network=(null)
   Command=/home/me/job.sh one two
   WorkDir=/home/me
   Comment=a b
   StdErr=/home/me/slurm-5.out
   StdIn=/dev/null
   StdOut=/home/me/slurm-5.out
   TresPerNode=gres:gpu:a100:1
   MailUser=me MailType=END,FAIL
"""


def test_all_that_slurm_tells_is_asked_for_again():
    assert options_of(SHOWN, "sbatch --signal=USR2@30 job.sh one two") == [
        "--job-name=my job", "--partition=gpu", "--account=lab", "--qos=high", "--time=00:03:00", "--nodes=2",
        "--ntasks=4", "--cpus-per-task=1", "--mem=100M", "--constraint=a100&nvlink", "--exclude=node7",
        "--mail-user=me", "--mail-type=END,FAIL", "--chdir=/home/me", "--output=/home/me/slurm-5.out",
        "--error=/home/me/slurm-5.out", "--gres=gpu:a100:1", "--ntasks-per-node=2", "--signal=USR2@30", "--exclusive",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        ("TresPerJob=gres:gpu:2", ["--gpus=2"]),
        ("TresPerJob=gres/gpu:a100:2", ["--gpus=a100:2"]),
        ("TresPerTask=cpu=2,gres/gpu=1", ["--gpus-per-task=1"]),
        ("CPUs/Task=4 MinMemoryCPU=500M CpusPerTres=gres:gpu:2", ["--mem-per-cpu=500M", "--cpus-per-gpu=2"]),
        ("MinMemoryCPU=500M CPUs/Task=2 MemPerTres=gres:gpu:100", ["--cpus-per-task=2", "--mem-per-gpu=100"]),
        ("TresPerNode=gres:gpu:1,gres:nic:2", ["--gres=gpu:1,nic:2"]),
        ("TimeLimit=UNLIMITED NtasksPerN:B:S:C=0:0:*:* OverSubscribe=OK CPUs/Task=N/A", []),
    ],
)
def test_what_sbatch_takes_only_one_of_is_given_once(shown, options):
    assert options_of(shown, "") == options
