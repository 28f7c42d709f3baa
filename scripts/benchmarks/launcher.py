"""A sweep of 2-second jobs on Slurm: time to submit, and overhead per job, beside hydra-submitit-launcher.

Both compose the framework's configuration and run the same task in turn. The overhead of a job is what accounting
says it took, less the two seconds. Needs sbatch, as after `scripts/slurm-cluster up`, and the other launcher
(`.venv/bin/pip install hydra-submitit-launcher`).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SLEEP_SECONDS = 2.0
APP = f"""
import time
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from framework.launcher.names import register_folder_names
from framework.paths import CONF_DIR, register_bundle
from framework.rundir.attempts import AttemptRecord, Outcome

register_bundle()
register_folder_names()

@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
def main(config):
    record = AttemptRecord(overrides=list(HydraConfig.get().overrides.task))
    time.sleep({SLEEP_SECONDS})
    record.end, record.stop_reason = time.time(), Outcome.FINISHED
    path = Path(HydraConfig.get().runtime.output_dir) / "attempts/001.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record.write(path)

if __name__ == "__main__":
    main()
"""
CONTENDERS = {
    "framework": ["hydra/launcher=slurm", "hydra.launcher.time=10m"],
    "hydra-submitit-launcher": ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    num_jobs = parser.parse_args().jobs
    print(f"{num_jobs} jobs of {SLEEP_SECONDS:g} s            submitted in   overhead per job   whole sweep")
    for name, overrides in CONTENDERS.items():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:  # which the nodes see, as they may not /tmp
            submission, overhead, total = measure(Path(directory), overrides, num_jobs)
        print(f"{name:30} {submission:8.1f} s {overhead:14.2f} s {total:14.0f} s", flush=True)


def measure(directory: Path, overrides: list[str], num_jobs: int) -> tuple[float, float, float]:
    """Return seconds from the command to the queue, seconds per job beside its sleep, and seconds of the whole."""
    (directory / "sleeper.py").write_text(APP)
    name = f"sleep-{os.getpid()}-{directory.name}"
    command = ["-m", "sleeper", "-m", f"seed=range({num_jobs})", *overrides]
    naming = "job_name" if "hydra/launcher=slurm" in overrides else "name"
    began = time.time()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, f"hydra.launcher.{naming}={name}"], cwd=directory, stdout=log, stderr=log
        )
        while not ask("squeue", "--noheader", f"--name={name}"):
            if process.poll() is not None:
                sys.exit("".join((directory / "log").read_text().splitlines(keepends=True)[-5:]))
            time.sleep(0.2)
        submission = time.time() - began
        process.wait()
    if process.returncode:
        sys.exit("".join((directory / "log").read_text().splitlines(keepends=True)[-5:]))
    total = time.time() - began
    rows = ask("sacct", "--noheader", "--parsable2", "--allocations", f"--name={name}", "--format=State,ElapsedRaw")
    elapsed = [float(row.partition("|")[2]) for row in rows.split()]
    assert len(elapsed) == num_jobs, rows
    return submission, sum(elapsed) / num_jobs - SLEEP_SECONDS, total


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
