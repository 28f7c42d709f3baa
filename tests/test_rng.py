"""Random numbers are a function of the seed and a path, and leave the caller's generators alone."""

import random

import numpy as np
import torch

from framework.rng import seed_sequence, seeded


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_the_same_path_gives_the_same_numbers_and_another_path_others():
    def drawn(*path):
        with seeded(seed_sequence(*path)):
            return draws()

    assert drawn(1, "z", 2) == drawn(1, "z", 2)
    others = [drawn(1, "z", 3), drawn(1, "y", 2), drawn(2, "z", 2), drawn(1, 2, "z")]
    assert not set(drawn(1, "z", 2)) & {number for other in others for number in other}


def test_the_callers_generators_continue_as_if_nothing_had_happened():
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    undisturbed = [draws(), draws()]
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    first = draws()
    with seeded(seed_sequence(7)):
        draws()
    assert [first, draws()] == undisturbed
