"""What a Slurm job can do to itself: be requeued, be followed by another, and see whether its signals arrive.

Source: the manual pages of sbatch and scontrol; tried on 22.05.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from time import monotonic, sleep

from framework.runtime.schedulers.batch import SECONDS, Facts
from framework.runtime.schedulers.reading import Answer, ask, without
from framework.runtime.schedulers.slurm import job_id
from framework.runtime.schedulers.slurm_options import options_of

__all__ = [
    "ID_IN_SCRIPT",
    "KILL_SECONDS",
    "deaf",
    "follow_up",
    "in_script",
    "job_id",
    "look",
    "requeue",
    "start_number",
]

# The id as a job script writes it: of an array, the bare id means all tasks.
ID_IN_SCRIPT = '"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"'

KILL_SECONDS = 0.0
_PATIENCE_SECONDS = 300.0  # with a controller that is away: it ends no job meanwhile, and misses the end of this one
_PASSING = re.compile(  # while the controller restarts; the third is what 22.05 makes of a requeue then
    "did not answer|[Uu]nable to contact|Unexpected message|timed out|Connection refused|Zero Bytes|standby mode"
)
_IS_QUEUED = "is pending execution"  # somebody was faster to requeue the job
_ENDED = ("COMPLETING", "CANCELLED", "PENDING")  # what a job is once it is cancelled or requeued


def start_number(environment: Mapping[str, str]) -> int:
    """Return how often the job was requeued."""
    text = environment.get("SLURM_RESTART_COUNT", "")
    return int(text) if text.isdigit() else 0


def look(job: str, environment: Mapping[str, str], exit_code: int) -> Facts:
    """Return what `scontrol show job` says. A job that is cancelled while it is preempted is completing."""
    shown = _facts(_ask_patiently("scontrol", "show", "job", job))
    is_at_limit = shown.get("Reason") == "TimeLimit"
    return Facts(
        is_preempted=shown.get("JobState") == "RUNNING" and shown.get("PreemptTime", "None") != "None",
        is_at_limit=is_at_limit,
        is_decided=shown.get("JobState") in _ENDED and not is_at_limit,
        is_interactive=shown.get("BatchFlag") == "0",
    )


def requeue(job: str) -> Answer:
    """Put the job back into the queue; Slurm then ends this process with SIGTERM and SIGKILL."""
    answer = _ask_patiently("scontrol", "requeue", job)
    return Answer("") if _IS_QUEUED in answer.problem else answer


def follow_up(job: str, environment: Mapping[str, str]) -> Answer:
    """Submit the job's script again, to start when this job has ended; the answer is the new job's id."""
    script = ask("scontrol", "write", "batch_script", job, "-", seconds=SECONDS)
    shown = ask("scontrol", "show", "job", job, seconds=SECONDS)
    if problem := script.problem or shown.problem:
        return Answer("", problem)
    submitted = ask("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=SubmitLine")
    options = options_of(shown.text, submitted.text)
    if task := environment.get("SLURM_ARRAY_TASK_ID"):
        options.append(f"--array={task}")
    options += [f"--dependency=afterany:{job}", "--export=ALL,FRAMEWORK_REQUEUED=1", "--open-mode=append"]
    arguments = re.search(r"Command=\S+ (.+)", shown.text)
    of_this_job = [name for name in environment if name.startswith(("SLURM", "SBATCH")) and name != "SLURM_CONF"]
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script.text + "\n")
        file.flush()
        command = [*without(of_this_job), "sbatch", "--parsable", *options, file.name]
        return ask(*command, *(arguments[1].split() if arguments else ()), seconds=SECONDS)


def in_script(exit_code: int) -> str:
    """Return the line after srun."""
    return f"after srun:\n    rc=$?; [ $rc -eq {exit_code} ] && scontrol requeue {ID_IN_SCRIPT}; exit $rc"


def deaf(environment: Mapping[str, str] = os.environ) -> str:
    """Return what to tell a person whose job's `--signal` does not reach this process, empty where it does."""
    job, script_pid = job_id(environment), environment.get("SLURM_TASK_PID")
    if job is None or environment.get("SLURM_PROCID", "0") != "0" or script_pid is None:
        return ""
    is_step = "SLURM_STEP_ID" in environment
    if not is_step and script_pid != str(os.getpid()):
        return (
            "Slurm's signals reach only the shell that runs this, not Python, which is killed without a save; "
            "in the job script, write: srun python ..."
        )
    script = ask("scontrol", "write", "batch_script", job, "-").text
    asked = re.search(r"^#SBATCH.*--signal[= ](\S+)", script, re.M)
    flags, _, name = asked[1].rpartition(":") if asked else ("", "", "")
    if not asked or ("B" in flags) != is_step or re.search(r"^\s*trap\s", script, re.M):
        return ""
    if is_step:
        return f"--signal={asked[1]} reaches the job script alone, not srun's steps; write: #SBATCH --signal={name}"
    return f"--signal={asked[1]} reaches srun's steps alone, not the job script; write: srun python ..."


def _ask_patiently(*command: str) -> Answer:
    """Ask again while the controller is away."""
    give_up = monotonic() + _PATIENCE_SECONDS
    while True:
        answer = ask(*command, seconds=SECONDS)
        if not _PASSING.search(answer.problem) or monotonic() > give_up:
            return answer
        sleep(2)


def _facts(shown: Answer) -> dict[str, str]:
    return dict(re.findall(r"(\S+?)=(\S*)", shown.text))
