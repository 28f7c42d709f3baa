"""Gaussian linear: the mean of a ten-dimensional Gaussian; the posterior is known exactly.

Source: Lueckmann et al. 2021, "Benchmarking simulation-based inference", task T.1.
"""

import math

import torch
from torch import Tensor

VARIANCE = 0.1


def simulate(z: Tensor) -> Tensor:
    """Return theta with white noise: (batch, 10) -> (batch, 10)."""
    return z + math.sqrt(VARIANCE) * torch.randn_like(z)
