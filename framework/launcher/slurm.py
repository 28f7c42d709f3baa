"""Jobs of a Slurm cluster, through submitit's executor."""

import logging
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from framework.environment import REQUEUE_FILE
from framework.errors import ConfigError, FrameworkError
from framework.launcher.config import SlurmConfig
from framework.launcher.job import Job
from framework.launcher.ticket import Ticket, write_ticket
from framework.launcher.uninterrupted import uninterrupted
from framework.runtime.schedulers.slurm import ID_IN_SCRIPT

log = logging.getLogger(__name__)

_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "PREEMPTED"}
_COMMAND_SECONDS = 60
# Where Python cannot run scontrol, as in a container, the script does it, on the batch host.
# Since Slurm 22.05, srun does not take this from sbatch: the processes would share one core.
_CPUS = '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'
# Not all clusters hold jobs to their processors, and threads that wait for each other's slow them down many times.
_SHARE = "$((${SLURM_CPUS_ON_NODE:-1} / ${SLURM_NTASKS_PER_NODE:-1}))"
_THREADS = f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-{_SHARE}}}}}"
_SCRIPT_FILE = f"export {REQUEUE_FILE}={{folder}}requeue-{ID_IN_SCRIPT.replace('{', '{{').replace('}', '}}')}"
_KEEP_CODE = "rc=$?"
_ASK = f"for _ in 1 2 3 4 5; do scontrol requeue {ID_IN_SCRIPT} && break; sleep 5; done"  # a controller may restart
_REQUEUE = [f'if [ -e "${REQUEUE_FILE}" ]; then rm "${REQUEUE_FILE}"; {_ASK}; fi', "exit $rc"]
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

    def submit(self, jobs: Sequence[Job]) -> list[Ticket]:
        """Submit the jobs and record their ids."""
        size = _max_array_size() if len(jobs) > 1 else 1
        parts = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        parallelism = max(1, self._config.array_parallelism // max(len(parts), 1))  # of each array
        self._executor.update_parameters(array_parallelism=parallelism)
        tickets = []
        for part in parts:
            with uninterrupted():  # jobs without a record of them would be submitted again
                for ticket in self._submit_array(part):
                    write_ticket(ticket, self.kind)
                    tickets.append(ticket)
        return tickets

    def refresh(self, tickets: Sequence[Ticket]) -> None:
        """Ask Slurm once about all of the jobs; without an answer, nothing changes."""
        asked = [t for t in tickets if t.state != "ended"]
        ids = sorted({ticket.job_id.partition("_")[0] for ticket in asked})
        if not ids:
            return
        command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T|%r"]
        answer = _ask(command)
        if answer is None:
            if not self._has_warned:
                log.warning("⚠ squeue gives no answer, so that nothing is known of the jobs; asking again")
            self._has_warned = True
            return
        states = {job_id: (state, reason) for job_id, state, reason in _rows(answer)}
        for ticket in asked:
            state, reason = states.get(ticket.job_id, ("", ""))
            is_waiting = state in _WAITING
            ticket.state = "ended" if state in _ENDED or not state else "queued" if is_waiting else "running"
            ticket.detail = reason if is_waiting and reason != "None" else state

    def stop(self, tickets: Sequence[Ticket]) -> str:
        """Leave the jobs to Slurm."""
        ids = sorted({ticket.job_id.partition("_")[0] for ticket in tickets if ticket.state != "ended"})
        return f"the jobs go on; the same command follows them, `scancel {' '.join(ids)}` ends them"

    def _submit_array(self, jobs: Sequence[Job]) -> list[Ticket]:
        try:
            submitted = self._executor.submit_array(jobs)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            problem = re.sub(r"\s+", " ", str(error) or str(error.__cause__)).strip()
            raise FrameworkError(f"sbatch did not take the jobs: {problem[-500:]}") from error
        pairs = zip(jobs, submitted, strict=True)
        return [Ticket(job.run_dir, s.job_id, str(s.paths.stdout).replace("%t", "0")) for job, s in pairs]


def _parameters(config: SlurmConfig, folder: Path, name: str) -> dict[str, Any]:
    """Return what submitit knows by name; sbatch gets all else as it is."""
    flags = {key: value for key, value in vars(config).items() if key not in _NOT_FLAGS and value not in (None, False)}
    return {
        "job_name": config.job_name or name,
        "time": math.ceil(config.time / 60),
        "nodes": config.nodes,
        "ntasks_per_node": config.tasks_per_node,
        "signal_delay_s": round(config.signal_lead),
        "setup": [_CPUS, _THREADS, *config.setup, _SCRIPT_FILE.format(folder=shlex.quote(f"{folder}/"))],
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
    """Return how many jobs one array may have: the cluster's limit is above its highest index."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask(["scontrol", "show", "config"]) or "", re.MULTILINE)
    return max(int(match[1]), 1) if match else 1000


def _ask(command: list[str]) -> str | None:
    """Return the command's answer, None if there is none; that no such job is known is an empty one."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return done.stdout
    return "" if "Invalid job id" in done.stderr else None


def _rows(answer: str) -> Iterator[tuple[str, str, str]]:
    for line in answer.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 3:
            yield fields[0], fields[1], fields[2]
