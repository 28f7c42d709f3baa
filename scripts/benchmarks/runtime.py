"""What does it cost to be ready to stop? Ratios to what can't be avoided, measured in turns in one run.

    scripts/bench runtime
    scripts/bench runtime --only poll,trainer --rounds 15

poll      guard.poll() with a budget and periodic saves, beside the call of a method that does nothing
trainer   Trainer.fit with guard, tracker and console, steps of about 200 µs, beside the loop that one writes by hand
          for the same model, batches, optimizer, clipping and validation
start     `python -m framework.train +resume=true`, simulations present, until its first training step is done,
          beside a process that imports torch and what its optimizers import; then from SIGTERM to the exit of the
          process, beside one of its steps and its save together

Times are medians over the rounds, ratios medians of the rounds' ratios. Files go to .cache/bench and are deleted.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from runtime_contenders import NUM_STEPS, Bare, Ours

from framework.runtime import BudgetReader, Guard, Policy

ROOT = Path(__file__).resolve().parents[2]
SCRATCH_DIR = ROOT / ".cache" / "bench" / "runtime"
PARTS = ("poll", "trainer", "start")
NUM_POLLS = 200_000

Times = dict[str, list[float]]


class Nothing:
    def poll(self) -> None: ...


def poll(rounds: int) -> None:
    nothing, guard = Nothing(), Guard(Policy(periodic_checkpoint_every=1800.0))
    with guard:
        guard.limit(BudgetReader("24h"))
        times = in_turns({"ours": lambda: polls(guard), "an empty method": lambda: polls(nothing)}, rounds)
    show("poll, ns per call", times, 1e9 / NUM_POLLS)
    nanoseconds = 1e9 / NUM_POLLS * statistics.median(times["ours"])
    check(nanoseconds < 1000, f"guard.poll() {nanoseconds:.0f} ns (under 1000)")


def polls(guard: Guard | Nothing) -> None:
    for _ in range(NUM_POLLS):
        guard.poll()


def trainer(rounds: int) -> None:
    bare = Bare()
    with Ours(SCRATCH_DIR) as ours:
        times = in_turns({"ours": ours.train, "bare loop": bare.train}, rounds)
    assert all(map(torch.equal, ours.trainer.parameters, bare.parameters)), "they have not done the same"
    reached = show("trainer, µs per step", times, 1e6 / NUM_STEPS)
    check(reached <= 1.05, f"ours / bare loop = {reached:.3f} (at most 1.05)")


def start_and_stop(rounds: int) -> None:
    """Resume the default experiment and terminate it again, time after time."""
    attempt()
    starts: Times = {"ours": [], "imports": []}
    stops: Times = {"ours": [], "step + save": []}
    probes = []
    for number in range(1, rounds + 1):
        print(f"start and stop: round {number}/{rounds}", file=sys.stderr)
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", "import torch, torch._dynamo"], check=True)
        starts["imports"].append(time.monotonic() - started)
        start_seconds, stop_seconds, probe = attempt("+resume=true")
        starts["ours"].append(start_seconds)
        stops["ours"].append(stop_seconds)
        stops["step + save"].append(probe["step_seconds"] + probe["save_seconds"])
        probes.append(probe)
    show("start, s", starts, 1.0)
    seconds = statistics.median(starts["ours"])
    cpu_seconds = statistics.median(probe["start_cpu_seconds"] for probe in probes)
    check(seconds < 4, f"the first step is done after {seconds:.2f} s (under 4), {cpu_seconds:.2f} s of them busy")
    show("stop, ms", stops, 1e3)
    names = ("step_seconds", "save_seconds", "until_saved_seconds")
    step, save, saved = (1e3 * statistics.median(probe[name] for probe in probes) for name in names)
    print(f"one step {step:.1f} ms, one save {save:.1f} ms; all is on disk {saved:.0f} ms after SIGTERM")
    left = statistics.median(ours - work for ours, work in zip(*stops.values(), strict=True))
    check(left < 1, f"SIGTERM to exit: one step, one save and {left:.2f} s (under 1)")


def attempt(*overrides: str) -> tuple[float, float, dict[str, float]]:
    """Train for a second, then terminate; return the seconds to the first step and to the exit, and the probe's."""
    probe_path = SCRATCH_DIR / "probe.json"
    probe_path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "framework.train", f"hydra.run.dir={SCRATCH_DIR}/run", "loop.num_epochs=100000"]
    command += [
        "loop.early_stop_patience=null",
        f"+tracking.probe={{_target_: runtime_probe.Probe, path: {probe_path}}}",
    ]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, *overrides],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not probe_path.exists():
        if process.poll() is not None:
            assert process.stderr
            sys.exit(f"runtime: training failed:\n{process.stderr.read().decode()}")
        time.sleep(0.01)
    time.sleep(1)
    signalled = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    stop_seconds = time.monotonic() - signalled
    assert process.returncode == 99, process.returncode
    told = json.loads(probe_path.read_text())
    told["until_saved_seconds"] = told["saved_time"] - signalled
    return told["first_step_time"] - started, stop_seconds, told


def in_turns(contenders: dict[str, Callable[[], None]], rounds: int) -> Times:
    """Return each contender's seconds in every round but the first, which warms up."""
    times: Times = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            times[name].append(time.perf_counter() - started)
    return {name: taken[1:] for name, taken in times.items()}


def show(title: str, times: Times, scale: float) -> float:
    """Print the medians; return that of the first contender's ratios to the second."""
    ours, reference = times.values()
    ratio = statistics.median(a / b for a, b in zip(ours, reference, strict=True))
    print(f"\n{title:<20} {'median':>9} {'fastest':>9} {'ratio':>7}")
    for name, taken in times.items():
        relative = f"{ratio:>7.3f}" if taken is ours else f"{1:>7}"
        print(f"{name:<20} {scale * statistics.median(taken):>9.1f} {scale * min(taken):>9.1f} {relative}", flush=True)
    return ratio


def check(passed: bool, text: str) -> None:
    print(f"{'✓' if passed else '✗'} {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"--only: no '{unknown.pop()}', only {', '.join(PARTS)}")
    torch.set_num_threads(1)
    shutil.rmtree(SCRATCH_DIR, ignore_errors=True)
    SCRATCH_DIR.mkdir(parents=True)
    print(
        f"torch {torch.__version__}, 1 thread, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr
    )
    try:
        for name, measure in (("poll", poll), ("trainer", trainer), ("start", start_and_stop)):
            if name in only:
                measure(arguments.rounds)
    finally:
        shutil.rmtree(SCRATCH_DIR, ignore_errors=True)


if __name__ == "__main__":
    main()
