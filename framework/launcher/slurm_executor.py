"""Jobs on a Slurm cluster, through submitit's executor."""

import logging
import math
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from framework.environment_variables import REQUEUE_FILE
from framework.errors import ConfigError, FrameworkError
from framework.launcher.jobs import SubmittedJob
from framework.launcher.launcher_config import SlurmConfig
from framework.launcher.launcher_job import Job
from framework.runtime.schedulers.slurm import ID_IN_SCRIPT

log = logging.getLogger(__name__)

_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "PREEMPTED"}
_COMMAND_SECONDS = 60
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Since Slurm 22.05, srun does not take this from sbatch: the processes would share one core.
_CPUS = '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'
# Not all clusters confine jobs to their cores, and too many threads that wait for each other are many times slower.
_SHARE = "$((${SLURM_CPUS_ON_NODE:-1} / ${SLURM_NTASKS_PER_NODE:-1}))"
_THREADS = f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-{_SHARE}}}}}"
# Where Python cannot run scontrol, as in a container, the script does it, on the batch host.
_EXPORT_FILE = f"export {REQUEUE_FILE}={{folder}}requeue-{ID_IN_SCRIPT.replace('{', '{{').replace('}', '}}')}"
_KEEP_CODE = "rc=$?"
_SCONTROL = f"for _ in 1 2 3 4 5; do scontrol requeue {ID_IN_SCRIPT} && break; sleep 5; done"  # Slurm may restart
_REQUEUE = [f'if [ -e "${REQUEUE_FILE}" ]; then rm "${REQUEUE_FILE}"; {_SCONTROL}; fi', "exit $rc"]
_NOT_FLAGS = {  # of SlurmConfig; the others are options of sbatch by their own names
    "time", "signal_lead", "nodes", "tasks_per_node", "job_name", "setup", "teardown", "srun_args", "python",
    "container_prefix", "array_parallelism", "additional_parameters", "wait", "retry_failed",
}  # fmt: skip


class SlurmJobs:
    """Submits all jobs as one array, or as several where the cluster's arrays are shorter."""

    kind = "slurm"

    def __init__(self, config: SlurmConfig, folder: Path, name: str) -> None:
        self.folder, self._config = folder, config
        self._has_warned = False
        try:
            self._executor = SlurmExecutor(folder, python=_python(config))
        except RuntimeError as error:
            raise ConfigError(
                "hydra/launcher=slurm: srun is not found here; hydra/launcher=slurm_local runs the sweep without Slurm"
            ) from error
        self._executor.update_parameters(**_parameters(config, folder, name))

    def submit(self, jobs: Sequence[Job]) -> list[SubmittedJob]:
        """Submit the jobs and record their ids."""
        size = _max_array_size() if len(jobs) > 1 else 1
        arrays = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        parallelism = max(1, self._config.array_parallelism // max(len(arrays), 1))  # of each array
        self._executor.update_parameters(array_parallelism=parallelism)
        submitted = []
        for array in arrays:
            with defer_signals():  # jobs without a record of them would be submitted again
                for job in self._submit_array(array):
                    job.record(self.kind)
                    submitted.append(job)
        return submitted

    def refresh(self, jobs: Sequence[SubmittedJob]) -> None:
        """Ask Slurm once about all of the jobs; without an answer, nothing changes."""
        asked = [job for job in jobs if job.state != "ended"]
        ids = _ids(asked)
        if not ids:
            return
        command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T|%r"]
        output = _output_of(command)
        if output is None:
            if not self._has_warned:
                log.warning("⚠ squeue is not responding; retrying")
            self._has_warned = True
            return
        states = {job_id: (state, reason) for job_id, state, reason in _rows(output)}
        for job in asked:
            state, reason = states.get(job.job_id, ("", ""))
            is_waiting = state in _WAITING
            job.state = "ended" if state in _ENDED or not state else "queued" if is_waiting else "running"
            job.detail = reason if is_waiting and reason != "None" else state

    def stop(self, jobs: Sequence[SubmittedJob]) -> str:
        """Leave the jobs to Slurm."""
        ids = _ids([job for job in jobs if job.state != "ended"])
        return f"the jobs keep running; the same command monitors them, `scancel {' '.join(ids)}` cancels them"

    def _submit_array(self, jobs: Sequence[Job]) -> list[SubmittedJob]:
        try:
            submitted = self._executor.submit_array(jobs)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            problem = re.sub(r"\s+", " ", str(error) or str(error.__cause__)).strip()
            raise FrameworkError(f"sbatch rejected the jobs: {problem[-500:]}") from error
        pairs = zip(jobs, submitted, strict=True)
        return [SubmittedJob(job.run_dir, s.job_id, str(s.paths.stdout).replace("%t", "0")) for job, s in pairs]


def _parameters(config: SlurmConfig, folder: Path, name: str) -> dict[str, Any]:
    """Return what submitit knows by name; everything else goes to sbatch unchanged."""
    flags = {key: value for key, value in vars(config).items() if key not in _NOT_FLAGS and value not in (None, False)}
    return {
        "job_name": config.job_name or name,
        "time": math.ceil(config.time / 60),
        "nodes": config.nodes,
        "ntasks_per_node": config.tasks_per_node,
        "signal_delay_s": round(config.signal_lead),
        "setup": [_CPUS, _THREADS, *config.setup, _EXPORT_FILE.format(folder=shlex.quote(f"{folder}/"))],
        "teardown": [_KEEP_CODE, *config.teardown, *_REQUEUE],
        "srun_args": config.srun_args,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **flags, **config.additional_parameters},
    }


def _python(config: SlurmConfig) -> str:
    """Return the command for Python as the batch script writes it."""
    if config.container_prefix:
        return f"{config.container_prefix} {config.python or 'python3'}"
    return config.python or shlex.quote(sys.executable)


def _max_array_size() -> int:
    """Return how many jobs one array may have: the cluster's limit is one above the highest index."""
    output = _output_of(["scontrol", "show", "config"]) or ""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
    return max(int(match[1]), 1) if match else 1000


def _ids(jobs: Sequence[SubmittedJob]) -> list[str]:
    """Return the ids of jobs and arrays, each array once."""
    return sorted({job.job_id.partition("_")[0] for job in jobs})


def _output_of(command: list[str]) -> str | None:
    """Return what the command prints, None if it fails; if Slurm knows no such job, that is an empty text."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return done.stdout
    return "" if "Invalid job id" in done.stderr else None


def _rows(output: str) -> Iterator[tuple[str, str, str]]:
    for line in output.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 3:
            yield fields[0], fields[1], fields[2]


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer stop signals until a critical section is done, for this process and the commands that it starts.

    Commands inherit the mask; a signal may still reach this process in another thread of it, such as a BLAS library's.
    """
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in _STOPS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what has come meanwhile is in `received` now
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if received:
            signal.raise_signal(received[0])
