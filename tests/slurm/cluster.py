"""The live cluster as tests see it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/slurm-cluster"
WAIT_SECONDS = 240
GONE = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


class Cluster:
    """Runs Slurm's commands; jobs find this Python and this code first."""

    def __init__(self, state_dir):
        self.state_dir = state_dir
        python = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        self.environment = {**os.environ, **python, "OMP_NUM_THREADS": "1", "FRAMEWORK_SLURM_DIR": str(state_dir)}
        self.environment["SLURM_CONF"] = f"{state_dir}/etc/slurm.conf"

    def bring_up(self):
        """Return why there is no cluster, empty if there is one."""
        result = subprocess.run([SCRIPT, "up"], env=self.environment, capture_output=True, text=True)
        return result.stderr if result.returncode else ""

    def manage(self, *arguments):
        """Run `scripts/slurm-cluster`; raises if it fails."""
        return self.run(SCRIPT, *arguments)

    def run(self, *command, cwd=None, **variables):
        environment = {**self.environment, **variables}
        result = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout.strip()

    def submit(self, *arguments, cwd, **variables):
        """Return the id of the new job."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd, **variables)

    def kill(self, daemon):
        """Kill a daemon of the cluster; `scripts/slurm-cluster up` starts it again."""
        os.kill(int((self.state_dir / f"pids/{daemon}").read_text()), signal.SIGKILL)

    def kill_processes(self, job):
        """Kill all that a job runs and Slurm's managers of it, as if its node had lost power."""
        pids = self.processes(job)
        parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}
        managers = [pid for pid in parents if Path(f"/proc/{pid}/cmdline").read_text().startswith("slurmstepd: ")]
        assert managers, pids
        for pid in managers + pids:
            os.kill(pid, signal.SIGKILL)

    def processes(self, job):
        """Return the ids of all processes of a job, in all of its attempts."""
        ours = {f"SLURM_JOB_ID={job}", f"SLURM_CONF={self.environment['SLURM_CONF']}"}
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if ours <= set(environment_of(path))]

    def shown(self, job):
        """Return what `scontrol show job` says, by its own names."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "show", "job", job)))

    def state(self, job):
        return self.shown(job)["JobState"]

    def wait(self, job, *states):
        """Wait until the job is in one of the states, or, if none is given, over."""
        wait_for(lambda: self.state(job) in (states or GONE), f"job {job} to be {states or 'over'}")
        return self.shown(job)


def environment_of(path):
    try:
        return (path / "environ").read_text(errors="replace").split("\0")
    except OSError:  # it has ended
        return []


def wait_for(condition, what="it"):
    """Return what the condition returns, as soon as that is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s for {what}"
        time.sleep(0.1)
    return result
