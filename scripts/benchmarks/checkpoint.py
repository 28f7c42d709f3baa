"""What does a checkpoint cost? Ratios to plain copies and raw writes, measured in turns in one run.

    scripts/bench checkpoint
    scripts/bench checkpoint --sizes 1.6e6 --rounds 50

blocked   how long training stands still for one save
            copy        each tensor copied into memory that is already there
            ours        CheckpointWriter.save
            torch.save  into a file, not fsynced
            dcp         torch.distributed.checkpoint.async_save, until it returns
durable   until everything would survive a power cut
            raw         the same bytes written to one file, and its fsync
            ours        CheckpointStore.commit: digests, manifest and rename; as with raw, what was there before
                        is removed off the clock
            torch.save  into a file, and its fsync

Times are medians over the rounds, ratios medians of the rounds' ratios. Files go to .cache/bench and are deleted.
"""

import argparse
import logging
import os
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch
from torch.distributed.checkpoint import state_dict_saver as dcp

from framework.checkpoint import CheckpointStore, CheckpointWriter

ROOT = Path(__file__).resolve().parents[2]
SCRATCH_DIR = ROOT / ".cache" / "bench" / "checkpoint"
NUM_TENSORS = 48  # sixteen parameters, each with Adam's two averages
LARGE_BYTES, SMALL_BYTES = 1.2e9, 1.6e6

State = dict[str, torch.Tensor]
Contender = Callable[[], float]


def make_state(num_bytes: float) -> State:
    return {f"tensor{i}": torch.randn(int(num_bytes) // 4 // NUM_TENSORS) for i in range(NUM_TENSORS)}


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def write_raw(state: State, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for tensor in state.values():
            view = tensor.numpy().data.cast("B")
            while view:
                view = view[file.write(view) :]
        os.fsync(file.fileno())


def torch_save(state: State, path: Path, sync: bool) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def blocked(state: State) -> dict[str, Contender]:
    """Return the contenders; each call takes one save's blocked time, and waits until the disk is idle again.

    The state is touched before, as an optimizer step would.
    """
    buffers = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    writer = CheckpointWriter(CheckpointStore(SCRATCH_DIR / "ours"))
    writer.prepare({"model.pth": state})

    def copy() -> None:
        for name, tensor in state.items():
            buffers[name].copy_(tensor)

    def ours() -> float:
        taken = seconds(lambda: writer.save({"model.pth": state}, {"step": 1}))
        writer.flush()
        return taken

    def save() -> float:
        return emptied(SCRATCH_DIR / "save", lambda path: seconds(lambda: torch_save(state, path / "file", False)))

    def async_save(path: Path) -> float:
        started = time.perf_counter()
        future = dcp.async_save(state, checkpoint_id=path)
        taken = time.perf_counter() - started
        assert isinstance(future, Future)
        future.result()
        return taken

    contenders = {
        "copy": lambda: seconds(copy),
        "ours": ours,
        "torch.save": save,
        "dcp": lambda: emptied(SCRATCH_DIR / "dcp", async_save),
    }

    def after_step(contender: Contender) -> Contender:
        def run() -> float:
            for tensor in state.values():
                tensor.mul_(0.999)
            return contender()

        return run

    return {name: after_step(contender) for name, contender in contenders.items()}


def durable(state: State) -> dict[str, Contender]:
    store = CheckpointStore(SCRATCH_DIR / "durable", keep=1000)

    def raw(path: Path) -> float:
        return seconds(lambda: write_raw(state, path / "file"))

    def save(path: Path) -> float:
        return seconds(lambda: torch_save(state, path / "file", True))

    def ours() -> float:
        for generation in store.generations()[:-1]:
            shutil.rmtree(generation.path)
        state["tensor0"][0] += 1  # with the bytes of the last save it would only be linked
        return seconds(lambda: store.commit({"model.pth": state}, {"step": 1}))

    return {
        "raw": lambda: emptied(SCRATCH_DIR / "raw", raw),
        "ours": ours,
        "torch.save": lambda: emptied(SCRATCH_DIR / "save", save),
    }


def emptied(path: Path, action: Callable[[Path], float]) -> float:
    """Run `action` in a new directory, then bring all to disk and remove it, so that no one pays for another."""
    path.mkdir(parents=True)
    try:
        return action(path)
    finally:
        os.sync()
        shutil.rmtree(path)


def measure(title: str, contenders: dict[str, Contender], rounds: int, num_bytes: float) -> dict[str, float]:
    """Print a table; return each contender's time as a multiple of the first one's."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, contender in contenders.items():
            one = contender()
            if round_:  # the first one warms up
                times[name].append(one)
    reference = next(iter(times))
    ratios = {
        name: statistics.median(a / b for a, b in zip(taken, times[reference], strict=True))
        for name, taken in times.items()
    }
    print(f"\n{title:<20} {'ms':>9} {'fastest':>9} {'GB/s':>7} {'/ ' + reference:>8}")
    for name, taken in times.items():
        median = statistics.median(taken)
        speed = num_bytes / median / 1e9
        print(f"{name:<20} {1e3 * median:>9.2f} {1e3 * min(taken):>9.2f} {speed:>7.2f} {ratios[name]:>8.2f}")
    print("", end="", flush=True)
    return ratios | {"ms": 1e3 * statistics.median(times["ours"])}


def check(passed: bool, text: str) -> None:
    print(f"{'✓' if passed else '✗'} {text}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=f"{LARGE_BYTES:g},{SMALL_BYTES:g}", help="bytes; default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 5 for a gigabyte, 50 for a megabyte")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    warnings.filterwarnings("ignore")  # that this is one process is no news
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    shutil.rmtree(SCRATCH_DIR, ignore_errors=True)
    SCRATCH_DIR.mkdir(parents=True)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}", file=sys.stderr
    )
    try:
        for num_bytes in (float(size) for size in arguments.sizes.split(",")):
            is_large = num_bytes > 1e8
            rounds = arguments.rounds or (5 if is_large else 50)
            state, size = make_state(num_bytes), f"{num_bytes / 1e6:g} MB"
            ratios = measure(f"blocked, {size}", blocked(state), rounds, num_bytes)
            if is_large:
                check(ratios["ours"] <= 1.5, f"ours / copy = {ratios['ours']:.2f} (at most 1.5)")
            else:
                check(ratios["ms"] <= 0.3, f"ours {ratios['ms']:.2f} ms (at most 0.3)")
            ratios = measure(f"durable, {size}", durable(state), rounds, num_bytes)
            if is_large:
                check(1 / ratios["ours"] >= 0.8, f"ours {1 / ratios['ours']:.2f} of the raw speed (at least 0.8)")
    finally:
        shutil.rmtree(SCRATCH_DIR, ignore_errors=True)


if __name__ == "__main__":
    main()
