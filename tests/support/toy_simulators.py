"""Small simulators for the tests; worker processes import them by name."""

import functools
import os
import random
import signal
import subprocess
import time
from contextlib import nullcontext

import numpy as np
import torch

from framework.graph import Graph, Node
from framework.priors import Uniform
from framework.simulation import SimulationStore, infer_shapes, run_simulations

SEED = 3


def first(*values):
    return values[0]


def add(*values):
    return sum(values)


def add_noise(theta, rng):
    return theta + 0.1 * rng.standard_normal(theta.shape)


def add_noise_torch(theta, generator):
    return theta + 0.1 * torch.randn(theta.shape, generator=generator)


def add_global_noise(theta):
    """Draws from all three global generators."""
    return np.append(theta, [random.random(), np.random.rand(), torch.rand(()).item()])


def add_global_noise_and_fail_sometimes(theta):
    if random.random() < 0.1:
        raise RuntimeError("did not converge")
    return add_global_noise(theta)


def sum_of(theta):
    return theta.sum(-1)


def add_one_in_place(theta):
    theta += 1
    return theta


def fail_when_negative(theta):
    if theta[0] < 0:
        raise ValueError("theta is negative")
    return theta


def nan_when_negative(theta):
    return torch.where(theta < 0, torch.nan, theta)


def overflow_when_negative(theta):
    return np.where(theta < 0, np.float64(1e300), theta)


def always_fail(theta):
    raise ArithmeticError("no solution")


def return_nothing(theta):
    return None


def one_by_one_only(theta, rng):
    if len(theta) > 1:
        raise RuntimeError("the batch is too large")
    return theta + rng.standard_normal(theta.shape)


def ragged(theta):
    return theta if theta[0] < 0 else theta[:1]


def without_batch_axis(theta):
    return theta[0]


def slow(theta):
    time.sleep(0.01)
    return theta


def kill_own_process(theta):
    os.kill(os.getpid(), signal.SIGKILL)


class StartsPrograms:
    """Fails when the program that it waits for is ended, as by a scheduler that signals all processes of a job."""

    def __init__(self, calls_with_signal):
        self.num_calls, self.calls_with_signal = 0, calls_with_signal

    def __call__(self, theta, rng):
        self.num_calls += 1
        with (
            subprocess.Popen(["sleep", "60"]) if self.num_calls in self.calls_with_signal else nullcontext() as program
        ):
            if program:
                for pid in (program.pid, os.getpid()):
                    os.kill(pid, signal.SIGUSR1)
                raise RuntimeError(f"the program ended with {program.wait()}")
        return add_noise(theta, rng)


class ReusesItsBuffer:
    """Returns the same array each time, as wrapped C code may."""

    def __init__(self):
        self.buffer = np.zeros(2, np.float32)

    def __call__(self, theta):
        self.buffer[:] = theta
        return self.buffer


def theta_to_x(simulator, batched=False, backend="numpy"):
    """Return the graph theta -> x with two parameters, both uniform from -1 to 1."""
    observed = np.zeros((1, 2), np.float32)
    return Graph(
        [
            Node("theta", evidence=("x",), prior=Uniform(low=[-1, -1], high=[1, 1])),
            Node("x", ("theta",), simulator=simulator, batched=batched, backend=backend, observed=observed),
        ]
    )


def builder(*args):
    """Return what worker processes call to build `theta_to_x(*args)`."""
    return functools.partial(theta_to_x, *args)


def store_for(build, directory):
    return SimulationStore(directory, SEED, infer_shapes(build(), SEED))


def run(build, directory, num_simulations=1000, workers=1, max_invalid_fraction=1.0, on_progress=None, **more):
    store = store_for(build, directory)
    run_simulations(build, store, num_simulations, SEED, workers, max_invalid_fraction, on_progress, **more)
    return store


def content(store, num_simulations=None):
    """All that is in the store, as bytes by node."""
    arrays = store.load(list(store.event_shapes), num_simulations)
    return {name: array.tobytes() for name, array in arrays.items()}
