"""Slurm: variables of the job's environment since 23.02, `squeue` before that and for changes; `scontrol` to requeue.

Source: the manual pages of sbatch, squeue and scontrol; tried on 22.05. The variables are fixed when the job starts,
the limit is not. Slurm requeues a preempted job itself only if it has to kill it.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from time import monotonic, sleep

from framework.environment_variables import REQUEUED
from framework.runtime.schedulers.command import REQUEST_SECONDS, CommandResult, run_command, without_variables
from framework.runtime.schedulers.scheduler import JobState, Scheduler
from framework.runtime.schedulers.slurm_options import options_of
from framework.runtime.schedulers.time_estimate import TimeEstimate

# The id as a job script writes it: of an array, the bare id means all tasks.
ID_IN_SCRIPT = '"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"'

_RETRY_SECONDS = 300.0  # while the controller is away: it ends no job meanwhile, and would miss the end of this one
_TEMPORARY = re.compile(  # while the controller restarts; the third is what 22.05 makes of a requeue then
    "did not answer|[Uu]nable to contact|Unexpected message|timed out|Connection refused|Zero Bytes|standby mode"
)
_IS_QUEUED = "is pending execution"  # somebody else has requeued the job first
_ENDED = ("COMPLETING", "CANCELLED", "PENDING")  # the state of a job that is cancelled or requeued


class Slurm(Scheduler):
    """Requeues with `scontrol requeue`, which keeps the job id; submits a successor where that is forbidden."""

    can_requeue = True

    def job_id(self, environment: Mapping[str, str]) -> str | None:
        """Return the id that names this task alone: the bare id of an array can mean all of its tasks."""
        if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
            return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
        return environment.get("SLURM_JOB_ID")

    def end_times(self, environment: Mapping[str, str], fresh: bool) -> Iterator[TimeEstimate]:
        """Yield SLURM_JOB_END_TIME in Unix seconds, then squeue's EndTime."""
        if "SLURM_JOB_END_TIME" in environment and not fresh:
            yield TimeEstimate.parse("SLURM_JOB_END_TIME", environment["SLURM_JOB_END_TIME"], float)
        yield from self._squeue(environment, "EndTime")

    def start_times(self, environment: Mapping[str, str]) -> Iterator[TimeEstimate]:
        """Yield SLURM_JOB_START_TIME in Unix seconds, then squeue's StartTime."""
        if "SLURM_JOB_START_TIME" in environment:
            yield TimeEstimate.parse("SLURM_JOB_START_TIME", environment["SLURM_JOB_START_TIME"], float)
        yield from self._squeue(environment, "StartTime")

    def start_number(self, environment: Mapping[str, str]) -> int:
        """Return how often the job was requeued."""
        text = environment.get("SLURM_RESTART_COUNT", "")
        return int(text) if text.isdigit() else 0

    def check_signal_delivery(self, environment: Mapping[str, str]) -> str:
        """Return what to write so that the job's `--signal` reaches this process, empty if it does."""
        job, script_pid = self.job_id(environment), environment.get("SLURM_TASK_PID")
        if job is None or environment.get("SLURM_PROCID", "0") != "0" or script_pid is None:
            return ""
        is_step = "SLURM_STEP_ID" in environment
        if not is_step and script_pid != str(os.getpid()):
            return (
                "Slurm's signals reach only the shell that runs Python, which is then killed without saving; "
                "in the job script, write: srun python ..."
            )
        script = run_command("scontrol", "write", "batch_script", job, "-").text
        asked = re.search(r"^#SBATCH.*--signal[= ](\S+)", script, re.M)
        flags, _, name = asked[1].rpartition(":") if asked else ("", "", "")
        if not asked or ("B" in flags) != is_step or re.search(r"^\s*trap\s", script, re.M):
            return ""
        if is_step:
            return f"--signal={asked[1]} reaches only the job script, not srun's steps; write: #SBATCH --signal={name}"
        return f"--signal={asked[1]} reaches only srun's steps, not the job script; write: srun python ..."

    def state(self, job: str, environment: Mapping[str, str], exit_code: int) -> JobState:
        """Return what `scontrol show job` says. A job that is cancelled while it is preempted is completing."""
        shown = _run_with_retries("scontrol", "show", "job", job)
        fields = dict(re.findall(r"(\S+?)=(\S*)", shown.text))
        is_at_limit = fields.get("Reason") == "TimeLimit"
        return JobState(
            is_preempted=fields.get("JobState") == "RUNNING" and fields.get("PreemptTime", "None") != "None",
            is_at_limit=is_at_limit,
            is_decided=fields.get("JobState") in _ENDED and not is_at_limit,
            is_interactive=fields.get("BatchFlag") == "0",
        )

    def requeue(self, job: str) -> CommandResult:
        """Put the job back into the queue; Slurm then ends this process with SIGTERM and SIGKILL."""
        result = _run_with_retries("scontrol", "requeue", job)
        return CommandResult("") if _IS_QUEUED in result.problem else result

    def submit_successor(self, job: str, environment: Mapping[str, str]) -> CommandResult:
        """Submit the job's script again, to start when this job has ended; the result is the new job's id."""
        script = run_command("scontrol", "write", "batch_script", job, "-", seconds=REQUEST_SECONDS)
        shown = run_command("scontrol", "show", "job", job, seconds=REQUEST_SECONDS)
        if problem := script.problem or shown.problem:
            return CommandResult("", problem)
        of_this_job = f"--jobs={job}"
        submitted = run_command(
            "sacct", "--noheader", "--parsable2", "--allocations", of_this_job, "--format=SubmitLine"
        )
        options = options_of(shown.text, submitted.text)
        if task := environment.get("SLURM_ARRAY_TASK_ID"):
            options.append(f"--array={task}")
        options += [f"--dependency=afterany:{job}", f"--export=ALL,{REQUEUED}=1", "--open-mode=append"]
        arguments = re.search(r"Command=\S+ (.+)", shown.text)
        unwanted = [name for name in environment if name.startswith(("SLURM", "SBATCH")) and name != "SLURM_CONF"]
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
            file.write(script.text + "\n")
            file.flush()
            command = [*without_variables(unwanted), "sbatch", "--parsable", *options, file.name]
            return run_command(*command, *(arguments[1].split() if arguments else ()), seconds=REQUEST_SECONDS)

    def script_hint(self, exit_code: int) -> str:
        """Return the line after srun."""
        return f"after srun:\n    rc=$?; [ $rc -eq {exit_code} ] && scontrol requeue {ID_IN_SCRIPT}; exit $rc"

    def _squeue(self, environment: Mapping[str, str], field: str) -> Iterator[TimeEstimate]:
        if job := self.job_id(environment):
            yield TimeEstimate.from_command("squeue", ["squeue", "-h", "-j", job, "-O", field], _local_time)


def _local_time(text: str) -> float:
    """Read `2026-11-20T08:35:23` in local time; of several lines, as of a heterogeneous job, the first moment."""
    return min(datetime.strptime(line.strip(), "%Y-%m-%dT%H:%M:%S").timestamp() for line in text.splitlines())


def _run_with_retries(*command: str) -> CommandResult:
    """Run the command again while the controller is away."""
    give_up = monotonic() + _RETRY_SECONDS
    while True:
        result = run_command(*command, seconds=REQUEST_SECONDS)
        if not _TEMPORARY.search(result.problem) or monotonic() > give_up:
            return result
        sleep(2)
