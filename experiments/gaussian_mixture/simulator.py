"""Gaussian mixture: a broad and a narrow Gaussian with the same mean.

Source: Sisson et al. 2007, "Sequential Monte Carlo without likelihoods"; here in two dimensions.
"""

import torch
from torch import Tensor

BROAD, NARROW = 1.0, 0.1


def simulate(z: Tensor) -> Tensor:
    """Return theta with noise, broad or narrow in both dimensions alike: (batch, 2) -> (batch, 2)."""
    is_broad = torch.rand(len(z), 1) < 0.5
    scale = torch.where(is_broad, BROAD, NARROW)
    return z + scale * torch.randn_like(z)
