"""Processes that hold or race for a lease; light to import, since they are spawned."""

import time
from pathlib import Path

from framework.errors import ResumeRefusedError
from framework.runtime.lease import Lease


def hold(directory, ready):
    """Hold the directory until killed."""
    with Lease(Path(directory), heartbeat_seconds=0.02):
        ready.set()
        time.sleep(600)


def race(directory, num_rounds, barrier, results):
    """Reach for `num_rounds` directories in step with others; tell which were won."""
    won = []
    for number in range(num_rounds):
        barrier.wait(30)
        try:
            with Lease(Path(directory) / str(number)):
                barrier.wait(30)  # held until everybody has tried
                won.append(1)
        except ResumeRefusedError:
            barrier.wait(30)
            won.append(0)
    results.put(won)
