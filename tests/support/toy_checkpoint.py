"""Run as a program: checkpoints on a full disk, or saved by processes that are killed at any moment."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from framework.checkpoint import CheckpointStore, CheckpointWriter, SaveError


def files(value: int) -> dict:
    return {"model.pth": {"w": torch.full((20_000,), float(value))}, "state.json": {"value": value}}


def saved(root: Path) -> int:
    """Return the newest value, having checked that both files hold it."""
    newest = CheckpointStore(root).latest()
    if newest is None:
        return 0
    value = newest.load("state.json")["value"]
    assert torch.equal(newest.load("model.pth")["w"], files(value)["model.pth"]["w"])
    return value


def save_until_killed(root: Path, acknowledge: int) -> None:
    value = saved(root)
    with CheckpointWriter(CheckpointStore(root)) as writer:
        while True:
            value += 1
            writer.save(files(value), {})
            writer.flush()
            os.write(acknowledge, value.to_bytes(8, "big"))


def kill_loop(root: Path, num_kills: int) -> None:
    acknowledged = 0
    for _ in range(num_kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            save_until_killed(root, writer)
        os.close(writer)
        time.sleep(random.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while record := os.read(reader, 8):
            acknowledged = int.from_bytes(record, "big")
        os.close(reader)
        found = saved(root)
        assert acknowledged <= found <= acknowledged + 1, (acknowledged, found)
        acknowledged = found
    assert acknowledged > 0
    print("kills survived:", num_kills)


def fill(root: Path) -> None:
    store = CheckpointStore(root)
    for value in (1, 2):
        store.commit(files(value), {})
    try:
        store.commit({"model.pth": {"w": torch.zeros(500_000)}}, {})
    except SaveError as error:
        print(error)
    assert saved(root) == 2
    store.commit(files(3), {})
    assert saved(root) == 3


if __name__ == "__main__":
    if sys.argv[1] == "full":
        fill(Path(sys.argv[2]))
    else:
        kill_loop(Path(sys.argv[2]), int(sys.argv[3]))
