"""What is submitted to Slurm, and what is reported about it; the commands of Slurm are fakes."""

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from framework.errors import ConfigError, FrameworkError, SweepError
from framework.launcher.jobs import Planned, SubmittedJob
from framework.launcher.launcher_config import SlurmConfig, parse_launcher
from framework.launcher.launcher_job import Job
from framework.launcher.row import Row
from framework.launcher.slurm_executor import SlurmJobs
from framework.rundir.run_status import RunStatus
from framework.runtime.lease import Lease
from tests.support.command import environment
from tests.support.fake_slurm import FakeSlurm
from tests.support.toy_sweep import launcher, leave_attempt, seeds, until_stopped, wait_for

NO_WAIT = "hydra.launcher.wait=false"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.chdir(tmp_path)
    return fake


def submit(*overrides, jobs=None):
    with launcher("slurm", NO_WAIT, *overrides) as started:
        return started.launch(jobs or seeds(0, 1), 0)


def run_dir(name):
    return Path("multirun/two_moons") / name


def flags(script):
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def test_a_sweep_is_one_array_with_limit_signal_and_requeue(slurm):
    submit("hydra.launcher.time=23h30m", "hydra.launcher.signal_lead=3m", "hydra.launcher.array_parallelism=1")
    (script,) = slurm.scripts()
    expected = {"array": "0-1%1", "time": "1410", "signal": "USR2@180", "requeue": "", "open-mode": "append"}
    assert expected.items() <= flags(script).items()
    assert flags(script)["job-name"] == "two_moons"


def test_one_job_is_no_array(slurm):
    submit(jobs=seeds(3))
    assert "array" not in flags(slurm.scripts()[0])


def test_the_options_of_sbatch_have_their_own_names(slurm):
    submit(
        "hydra.launcher.partition=main", "hydra.launcher.account=ours", "hydra.launcher.qos=high",
        "hydra.launcher.gres='gpu:1'", "hydra.launcher.gpus=2", "hydra.launcher.cpus_per_task=4",
        "hydra.launcher.mem=16G", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=3",
        "hydra.launcher.constraint=a100", "hydra.launcher.exclude=node7", "hydra.launcher.dependency='afterok:5'",
        "hydra.launcher.exclusive=true", "+hydra.launcher.additional_parameters.licenses=matlab",
    )  # fmt: skip
    expected = {
        "partition": "main", "account": "ours", "qos": "high", "gres": "gpu:1", "gpus": "2", "cpus-per-task": "4",
        "mem": "16G", "nodes": "2", "ntasks-per-node": "3", "constraint": "a100", "exclude": "node7",
        "dependency": "afterok:5", "exclusive": "", "licenses": "matlab",
    }  # fmt: skip
    assert expected.items() <= flags(slurm.scripts()[0]).items()


def test_options_that_are_not_set_are_left_to_the_cluster(slurm):
    submit()
    assert not {"partition", "account", "mem", "gpus", "exclusive", "cpus-per-task"} & flags(slurm.scripts()[0]).keys()


def test_the_command_has_setup_container_srun_arguments_and_teardown(slurm):
    submit(
        "hydra.launcher.setup=['module load cuda']",
        "hydra.launcher.teardown=['echo over']",
        "hydra.launcher.srun_args=['--mpi=none']",
        "hydra.launcher.container_prefix='apptainer exec image.sif'",
    )
    lines = slurm.scripts()[0].splitlines()
    (command,) = (line for line in lines if line.startswith("srun"))
    assert "--mpi=none apptainer exec image.sif python3 -u -m submitit.core._submit" in command
    assert lines.index("module load cuda") < lines.index(command) < lines.index("echo over")


def test_where_python_cannot_run_scontrol_the_script_requeues_the_job_and_keeps_the_exit_code(slurm):
    submit("hydra.launcher.setup=['exit_with() { return $1; }']", jobs=seeds(0))
    script = slurm.scripts()[0].replace("\nsrun ", "\nexit_with 99 # ")
    environment = {"PATH": slurm.path, "SLURM_JOB_ID": "7"}
    assert subprocess.run(["bash", "-c", script], env=environment).returncode == 99
    assert slurm.calls("scontrol") == []
    Path("multirun/two_moons/jobs/requeue-7").touch()
    assert subprocess.run(["bash", "-c", script], env=environment, stdout=subprocess.DEVNULL).returncode == 99
    assert slurm.calls("scontrol") == [["requeue", "7"]]
    assert not Path("multirun/two_moons/jobs/requeue-7").exists()


def test_a_sweep_longer_than_the_clusters_arrays_is_split_and_still_bounded(slurm):
    slurm.answer(max_array_size=3)
    submit("hydra.launcher.array_parallelism=4", jobs=seeds(*range(5)))
    assert [flags(script).get("array") for script in slurm.scripts()] == ["0-2%2", "0-1%2"]


def test_a_job_is_pinned_with_the_configuration_of_its_submission(slurm):
    submit("network.hidden_dim=8", jobs=[["network.hidden_dim=8", "seed=4"]])
    (path,) = Path("multirun/two_moons/jobs").glob("*_submitted.pkl")
    job = pickle.loads(path.read_bytes()).function
    assert (job.config.seed, job.config.network.hidden_dim) == (4, 8)
    assert job.task == "tests.support.toy_sweep:task"
    assert job.run_dir == run_dir("network.hidden_dim=8,seed=4").absolute()


def test_without_waiting_the_manifest_lists_the_jobs(slurm):
    submit()
    manifest = json.loads(Path("multirun/two_moons/sweep.json").read_text())
    assert [(job["overrides"], job["job_id"]) for job in manifest["jobs"]] == [(["seed=0"], "1_0"), (["seed=1"], "1_1")]


def test_jobs_in_the_queue_are_left_alone(slurm):
    submit()
    slurm.answer(squeue=[[("1_0", "PENDING", "Priority"), ("1_1", "RUNNING", "None")]])
    submit()
    assert len(slurm.scripts()) == 1


def test_jobs_whose_submission_was_interrupted_are_known_to_the_same_command(slurm):
    slurm.answer(interrupted=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            submit()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(slurm.scripts()) == 1
    slurm.answer(squeue=[[("1_0", "PENDING", "Priority"), ("1_1", "RUNNING", "None")]])
    submit()
    assert len(slurm.scripts()) == 1


def test_a_job_that_is_requeued_leaves_what_was_submitted_as_it_is(slurm):
    with launcher("slurm", NO_WAIT, function=until_stopped) as started:
        started.launch(seeds(0), 0)
    (path,) = Path("multirun/two_moons/jobs").glob("*_submitted.pkl")
    submitted = path.stat().st_ino, path.stat().st_mtime_ns
    of_slurm = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SUBMITIT_EXECUTOR": "slurm", "PATH": slurm.path}
    command = [sys.executable, "-m", "submitit.core._submit", "multirun/two_moons/jobs"]
    job = subprocess.Popen(command, env=environment() | of_slurm)
    wait_for((run_dir("seed=0") / "guarded").exists)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(60) == 255
    assert ["requeue", "1"] in slurm.calls("scontrol")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == submitted


def test_adding_values_submits_only_the_new_ones(slurm):
    submit()
    for seed in (0, 1):
        leave_attempt(run_dir(f"seed={seed}"), "finished", [f"seed={seed}"])
    submit(jobs=seeds(2, 1, 0))
    assert "array" not in flags(slurm.scripts()[1])
    assert json.loads((run_dir("seed=2") / "job.json").read_text())["job_id"] == "2"


@pytest.mark.parametrize(
    ("stop_reason", "retry", "num_submitted"),
    [("finished", False, 0), ("terminated", False, 1), ("crashed", False, 0), ("crashed", True, 1)],
)
def test_what_is_submitted_again(slurm, stop_reason, retry, num_submitted):
    leave_attempt(run_dir("seed=0"), stop_reason, ["seed=0"])
    submit(f"hydra.launcher.retry_failed={retry}", jobs=seeds(0))
    assert len(slurm.scripts()) == num_submitted


def test_a_run_that_somebody_else_holds_is_left_alone(slurm):
    leave_attempt(run_dir("seed=0"), "terminated", ["seed=0"])
    with Lease(run_dir("seed=0") / "lease"):
        submit(jobs=seeds(0))
    assert not slurm.scripts()


def test_a_job_that_is_asked_for_twice_is_submitted_once(slurm):
    assert len(submit(jobs=seeds(4, 4))) == 2
    assert "array" not in flags(slurm.scripts()[0])


def test_a_finished_run_that_is_asked_for_more_is_submitted(slurm):
    leave_attempt(run_dir("seed=0"), "finished", ["seed=0"])
    submit(jobs=[["seed=0", "loop.num_epochs=900"]])
    assert len(slurm.scripts()) == 1


def test_a_job_that_ends_before_its_run_begins_has_failed_with_the_words_of_slurm(slurm):
    slurm.answer(squeue=[[("1", "PENDING", "Priority")], [("1", "OUT_OF_MEMORY", "None")]])
    with launcher("slurm") as started:
        (returned,) = started.launch(seeds(0), 0)
    with pytest.raises(SweepError, match=r"1 of 1 jobs did not finish\n  seed=0: failed: OUT_OF_MEMORY") as raised:
        _ = returned.return_value
    assert raised.value.exit_code == 1


def test_a_job_that_was_killed_is_told_with_the_word_of_slurm(tmp_path):
    job = Job(OmegaConf.create({"hydra": {"runtime": {"output_dir": str(tmp_path)}, "overrides": {"task": []}}}), "")
    leave_attempt(tmp_path, None, [])
    submitted = SubmittedJob(tmp_path, "1", state="ended", detail="OUT_OF_MEMORY")
    row = Row.of(Planned(job, RunStatus(str(job.run_dir)), submitted=submitted))
    assert (row.state, row.reason) == ("lost", "OUT_OF_MEMORY")


def test_a_cluster_that_does_not_answer_is_asked_again(slurm, caplog):
    submitted = SubmittedJob(Path("seed=0"), "1", state="running")
    jobs = SlurmJobs(parse_launcher(SlurmConfig, {"time": "1h"}), Path("jobs"), "name")
    (slurm.root / "squeue").write_text("#!/bin/sh\necho socket timed out >&2; exit 1\n")
    for _ in range(2):
        jobs.refresh([submitted])
        assert submitted.state == "running"
    assert caplog.messages == ["⚠ squeue is not responding; retrying"]
    (slurm.root / "squeue").write_text("#!/bin/sh\necho Invalid job id specified >&2; exit 1\n")
    jobs.refresh([submitted])
    assert submitted.state == "ended"


def test_a_refusal_of_sbatch_is_told_in_its_words(slurm):
    slurm.answer(refusal="sbatch: error: invalid partition specified: mian")
    with pytest.raises(FrameworkError, match=r"sbatch rejected the jobs: .*invalid partition specified: mian"):
        submit()


def test_without_slurm_the_other_launcher_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="hydra/launcher=slurm_local"):
        submit()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra.launcher.time=soon", r"hydra\.launcher\.time=soon: expected a duration"),
        ("hydra.launcher.time=60", r"hydra\.launcher\.signal_lead=120s: expected less than hydra\.launcher\.time=60s"),
        ("hydra.launcher.mem=lots", r"hydra\.launcher\.mem=lots: expected a size such as 16G"),
        ("hydra.launcher.gpus=some", r"hydra\.launcher\.gpus=some: expected a number of GPUs"),
        ("hydra.launcher.nodes=0", r"hydra\.launcher\.nodes=0: expected at least 1"),
        ("hydra.launcher.setup=module", r"hydra\.launcher\.setup=module: expected a list"),
        ("+hydra.launcher.partitoin=main", r"hydra\.launcher\.partitoin=main: no such key; did you mean 'partition'"),
        ("hydra.sweeper.max_batch_size=3", r"max_batch_size: leave it out"),
        ("runtime.requeue=chain", r"runtime\.requeue=chain: not for the jobs of a sweep"),
        ("seed=-1", r"seed=-1: expected at least 0"),
        ("loop.num_epochs=3", r"loop\.num_epochs=3: two jobs of the sweep would share"),
    ],
    ids=lambda value: value.split("=")[0].lstrip("+") if "=" in value and "\\" not in value else "",
)
def test_a_mistake_names_its_key_before_anything_is_submitted(slurm, override, message):
    is_for_job = not override.lstrip("+").startswith("hydra")
    jobs = [["seed=0"], [*(["seed=0"] if "epochs" in override else []), override]] if is_for_job else seeds(0)
    with pytest.raises(ConfigError, match=message):
        submit(*([] if is_for_job else [override]), jobs=jobs)
    assert not slurm.scripts()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SLURM_CPUS_PER_TASK": "4"}, "4 for srun, 4 threads"),
        ({"SLURM_CPUS_ON_NODE": "2"}, "none for srun, 2 threads"),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_NTASKS_PER_NODE": "4"}, "none for srun, 2 threads"),
        ({"SLURM_CPUS_PER_TASK": "4", "OMP_NUM_THREADS": "1"}, "4 for srun, 1 threads"),
    ],
    ids=["asked for", "allocated", "shared by tasks", "set by the user"],
)
def test_a_job_takes_the_cores_that_it_has_and_no_more(slurm, variables, words):
    submit(jobs=seeds(0))
    say = "echo ${SRUN_CPUS_PER_TASK:-none} for srun, $OMP_NUM_THREADS threads # "
    script = slurm.scripts()[0].replace("\nsrun ", f"\n{say}")
    environment = {"PATH": slurm.path, "SLURM_JOB_ID": "7", **variables}
    said = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True).stdout
    assert words in said
