"""How fast is training? Samples per second of one architecture and batch size, in one run on one machine.

    scripts/bench training
    scripts/bench training --families MAF --rounds 15 --only bare,ours

bare      the shortest loop over zuko's flow: no clipping, no checkpoints
ours      this framework's trainer with its default settings
compiled  the same with loop.compile=true, once it is compiled
sbi       sbi's NPE with its own flow of that name
sbi-zuko  sbi's NPE with zuko's flow

The contenders take turns of equal length, so that whatever else the machine does slows all of them alike; rates and
ratios are medians over the rounds. Only training samples count, but the time includes validation on another tenth.
sbi gets an environment of its own in .cache/bench, made by the first run.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training_contenders import Settings

ROOT = Path(__file__).resolve().parents[2]
SBI_DIR = ROOT / ".cache" / "bench" / "sbi-venv"
SBI = "sbi==0.27.*"
CONTENDERS = ("bare", "ours", "compiled", "sbi", "sbi-zuko")
TARGETS = (("ours", "bare", 0.95), ("ours", "sbi", 2.0), ("compiled", "sbi", 5.0))


def ensure_sbi() -> None:
    """Make sbi's environment, with the same torch as ours, unless it is there."""
    constraints = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    torch_pin = next(line for line in constraints if line.startswith("torch=="))
    stamp = SBI_DIR / ".stamp"
    if stamp.exists() and stamp.read_text() == f"{torch_pin} {SBI}":
        return
    print(f"Setting up {SBI_DIR} ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", SBI_DIR], check=True)
    # torch comes first and by its exact pin: left to a range, pip may fetch another build of several gigabytes.
    for packages in ([torch_pin], [torch_pin, SBI]):
        pip = [str(SBI_DIR / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages]
        result = subprocess.run(pip, stderr=subprocess.PIPE, text=True)
        if result.returncode:
            reason = result.stderr.strip().splitlines()[-1]
            sys.exit(f"training: pip cannot install {packages[-1]} ({reason}); without it: --only bare,ours,compiled")
    stamp.write_text(f"{torch_pin} {SBI}")


class Process:
    """A contender in its own process, asleep between two calls of `train`."""

    def __init__(self, contender: str, family: str, settings: Settings, scratch_dir: Path) -> None:
        self.name = contender
        self._errors_path = scratch_dir / f"{contender}.txt"
        python = SBI_DIR / "bin" / "python" if contender.startswith("sbi") else sys.executable
        script = Path(__file__).with_name("training_contenders.py")
        cache_dir = scratch_dir / "compiled"
        with self._errors_path.open("w") as errors:
            self._process = subprocess.Popen(
                [python, script, contender, family, json.dumps(dataclasses.asdict(settings))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=scratch_dir,  # sbi writes logs where it runs
                env=os.environ | {"OMP_NUM_THREADS": str(settings.threads), "TORCHINDUCTOR_CACHE_DIR": str(cache_dir)},
            )
        self.details: dict[str, Any] = self._read()

    def train(self, num_epochs: int) -> float:
        """Return the seconds that the epochs took."""
        print(num_epochs, file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"training: {self.name} failed:\n{self._errors_path.read_text()[-2000:]}")
        return json.loads(line)


@contextlib.contextmanager
def running(contenders: list[str], family: str, settings: Settings) -> Iterator[dict[str, Process]]:
    """Start the contenders, `compiled` twice: with an empty cache, then with what the first one left there."""
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch, contextlib.ExitStack() as stack:
        processes = {}
        for contender in contenders:
            print(f"{family}: starting {contender} ...", file=sys.stderr)
            processes[contender] = Process(contender, family, settings, Path(scratch))
            if contender == "compiled":
                processes[contender].close()
                cold_seconds = processes[contender].details["start_seconds"]
                processes[contender] = Process(contender, family, settings, Path(scratch))
                processes[contender].details["cold_start_seconds"] = cold_seconds
            stack.callback(processes[contender].close)
        yield processes


def measure(family: str, arguments: argparse.Namespace, settings: Settings) -> None:
    samples_per_epoch = int(0.9 * settings.num_simulations) // settings.batch_size * settings.batch_size
    rates: dict[str, list[float]] = {name: [] for name in arguments.only}
    with running(arguments.only, family, settings) as processes:
        details = {name: process.details for name, process in processes.items()}
        num_epochs = {
            name: max(round(2 * arguments.seconds / process.train(2)), 1) for name, process in processes.items()
        }
        for number in range(1, arguments.rounds + 1):
            print(f"{family}: round {number}/{arguments.rounds}", file=sys.stderr)
            for name, process in processes.items():
                rates[name].append(samples_per_epoch * num_epochs[name] / process.train(num_epochs[name]))
    print(f"\n{family:<10} {'samples/s':>10} {'/ bare':>8} {'/ sbi':>8} {'weights':>9}")
    for name in rates:
        ratios = [f"{ratio(rates, name, other):8.2f}" if other in rates else " " * 8 for other in ("bare", "sbi")]
        rate, num_parameters = statistics.median(rates[name]), details[name]["num_parameters"]
        print(f"{name:<10} {rate:>10,.0f} {' '.join(ratios)} {num_parameters:>9,}")
    for name, other, target in TARGETS:
        if name in rates and other in rates:
            reached = ratio(rates, name, other)
            print(f"{'✓' if reached >= target else '✗'} {name} / {other} = {reached:.2f} (target {target})")
    if "compiled" in details:
        cold_seconds, warm_seconds = (details["compiled"][key] for key in ("cold_start_seconds", "start_seconds"))
        print(f"compiled: two epochs done after {cold_seconds:.1f} s, with a warm cache after {warm_seconds:.1f} s")


def ratio(rates: dict[str, list[float]], name: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="NSF,MAF", help="default: %(default)s")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn, about; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--num-simulations", type=int, default=10_000, help="default: %(default)s")
    arguments = parser.parse_args()
    arguments.only, arguments.families = arguments.only.split(","), arguments.families.upper().split(",")
    for option, given, known in (
        ("only", arguments.only, CONTENDERS),
        ("families", arguments.families, ("NSF", "MAF")),
    ):
        if unknown := set(given) - set(known):
            parser.error(f"--{option}: no '{unknown.pop()}', only {', '.join(known)}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    settings = Settings(arguments.num_simulations, arguments.batch_size, arguments.threads)
    if any(contender.startswith("sbi") for contender in arguments.only):
        ensure_sbi()
    for family in arguments.families:
        measure(family, arguments, settings)
    print(
        f"\n{settings.threads} thread(s), torch {importlib.metadata.version('torch')}, {SBI}, "
        f"{settings.num_simulations:,} simulations of 2 numbers given 2, batch {settings.batch_size}, "
        f"{settings.transforms} transforms of width {settings.hidden}, "
        f"{arguments.rounds} rounds"
    )


if __name__ == "__main__":
    main()
