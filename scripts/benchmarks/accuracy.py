"""How good are the posteriors? The classifier two-sample test (C2ST) on the SBI benchmark's tasks.

    scripts/bench accuracy --tasks two_moons,slcp --num-simulations 10000

0.5 means that a classifier cannot tell our samples from the reference posterior, 1.0 that it always can.
The tasks are those of sbibm 1.1.0, which fixed the Gaussian mixture.
Other arguments are Hydra overrides for every run, for example `loop.batch_size=500`. A task whose run has
finished is not run again. The table is printed and written to <output>/accuracy-<num_simulations>.csv.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import joblib
import numpy as np
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

ROOT = Path(__file__).resolve().parents[2]
SBIBM_DIR = ROOT / ".cache" / "sbibm"
NUM_SAMPLES = 10_000

# C2ST of NPE, mean of ten observations, by number of simulations.
# Source: Lueckmann et al. 2021, "Benchmarking simulation-based inference"; for the Gaussian mixture its authors' rerun
# of the task as fixed in sbibm 1.1.0 (sbi-benchmark/results, gaussian_mixture_rerun). The paper's own .731, .661 and
# .555 are of another task, where all of a batch of 1,000 simulations were broad, or all narrow.
PAPER = {
    "two_moons": {1_000: 0.725, 10_000: 0.606, 100_000: 0.542},
    "gaussian_linear": {1_000: 0.694, 10_000: 0.552, 100_000: 0.506},
    "gaussian_mixture": {1_000: 0.716, 10_000: 0.615, 100_000: 0.548},
    "slcp": {1_000: 0.975, 10_000: 0.901, 100_000: 0.831},
    "sir": {1_000: 0.815, 10_000: 0.680, 100_000: 0.585},
    "lotka_volterra": {1_000: 0.999, 10_000: 0.997, 100_000: 0.981},
}


def c2st(reference: np.ndarray, samples: np.ndarray, seed: int = 1) -> float:
    """Return the held-out accuracy of a classifier of two equally large sets of samples: (num_samples, dim).

    The benchmark's definition: z-scored by the reference, two hidden layers of 10 dim units, five folds.
    """
    mean, std = reference.mean(axis=0), reference.std(axis=0, ddof=1)
    inputs = np.concatenate([(reference - mean) / std, (samples - mean) / std])
    labels = np.repeat([0, 1], [len(reference), len(samples)])
    hidden = 10 * reference.shape[1]
    classifier = MLPClassifier(hidden_layer_sizes=(hidden, hidden), max_iter=10_000, random_state=seed)
    folds = KFold(n_splits=5, shuffle=True, random_state=seed)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        return float(cross_val_score(classifier, inputs, labels, cv=folds, scoring="accuracy").mean())


def run_task(task: str, num_simulations: int, run_dir: Path, overrides: list[str]) -> float:
    """Simulate, train and sample unless that is done; return the seconds it took (all attempts together)."""
    seconds_path = run_dir / "benchmark-seconds.txt"
    spent_seconds = float(seconds_path.read_text()) if seconds_path.exists() else 0.0
    if posterior_path(run_dir).exists():
        return spent_seconds
    observations = SBIBM_DIR / task / "observations.npz"
    command = [sys.executable, "-m", "framework.train", f"experiment={task}", f"name=accuracy-{task}"]
    command += [f"simulation.num_simulations={num_simulations}", f"inference.num_samples={NUM_SAMPLES}"]
    command += [f"graph.x.observed={observations}", f"graph.z.truth={observations}", f"hydra.run.dir={run_dir}"]
    command += ["+resume=true"] if (run_dir / "checkpoints").exists() else []
    start_seconds = time.monotonic()
    exit_code = subprocess.run([*command, *overrides], cwd=ROOT, stdout=sys.stderr).returncode
    spent_seconds += time.monotonic() - start_seconds
    if run_dir.exists():
        seconds_path.write_text(f"{spent_seconds:.1f}\n")
    if exit_code:
        sys.exit(f"accuracy: {task} ended with exit code {exit_code}; the same command resumes {run_dir}")
    return spent_seconds


def posterior_path(run_dir: Path) -> Path:
    return run_dir / "samples" / "posterior" / "z.npz"


def measure(task: str, num_observations: int, run_dir: Path) -> list[float]:
    """Return the C2ST of the first observations."""
    reference = np.load(SBIBM_DIR / task / "reference_posterior_samples.npy", mmap_mode="r")
    with np.load(posterior_path(run_dir)) as file:
        samples = file["samples"]
    assert samples.shape == reference.shape, f"{task}: samples {samples.shape}, reference {reference.shape}"
    return [c2st(np.array(reference[i]), samples[i]) for i in range(num_observations)]


def show(row: dict[str, Any], file: TextIO = sys.stdout) -> None:
    scores = " ".join(f"{score:.3f}" for score in row["scores"])
    paper = f"{row['paper']:.3f}" if row["paper"] else "-"
    print(f"{row['task']:<17} {row['mean']:>6.3f} {paper:>6} {row['seconds']:>9.0f}  {scores}", file=file, flush=True)


def write_csv(rows: list[dict[str, Any]], num_simulations: int, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"c2st_{i + 1}" for i in range(len(rows[0]["scores"]))]
        writer.writerow(["task", "num_simulations", "c2st_mean", "c2st_paper", "seconds", *names])
        for row in rows:
            scores = [f"{score:.4f}" for score in (row["mean"], *row["scores"])]
            line = [row["task"], num_simulations, scores[0], row["paper"], f"{row['seconds']:.1f}"]
            writer.writerow([*line, *scores[1:]])


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(PAPER), help="comma-separated; default: all six")
    parser.add_argument("--num-simulations", type=int, default=10_000)
    parser.add_argument("--observations", type=int, default=5, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "accuracy", help="default: %(default)s")
    arguments, overrides = parser.parse_known_args()
    arguments.tasks = arguments.tasks.split(",")
    for task in arguments.tasks:
        if task not in PAPER:
            parser.error(f"--tasks: no task '{task}', only {', '.join(PAPER)}")
    if not all((SBIBM_DIR / task / "reference_posterior_samples.npy").exists() for task in arguments.tasks):
        subprocess.run([sys.executable, ROOT / "scripts" / "fetch-sbibm"], check=True)
    if unknown := [override for override in overrides if override.startswith("--")]:
        parser.error(f"unknown option {unknown[0]}; Hydra overrides read key=value")
    return arguments, overrides


def main() -> None:
    arguments, overrides = parse_arguments()
    output_dir = arguments.output.resolve()
    path = output_dir / f"accuracy-{arguments.num_simulations}.csv"
    rows = []
    for task in arguments.tasks:
        run_dir = output_dir / f"{task}-{arguments.num_simulations}"
        seconds = run_task(task, arguments.num_simulations, run_dir, overrides)
        scores = measure(task, arguments.observations, run_dir)
        paper = PAPER[task].get(arguments.num_simulations)
        rows.append({"task": task, "scores": scores, "mean": np.mean(scores), "paper": paper, "seconds": seconds})
        write_csv(rows, arguments.num_simulations, path)
        show(rows[-1], file=sys.stderr)
    print(f"\nC2ST, {arguments.num_simulations} simulations (paper: NPE, mean of ten observations)")
    print("gaussian_mixture: as fixed in sbibm 1.1.0, and the paper's authors' rerun of it")
    print(f"{'task':<17} {'mean':>6} {'paper':>6} {'seconds':>9}  by observation")
    for row in rows:
        show(row)
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
