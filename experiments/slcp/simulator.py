"""Simple likelihood, complex posterior: four draws from a Gaussian with an unknown covariance.

Source: Papamakarios et al. 2019, "Sequential neural likelihood".
"""

import torch
from torch import Tensor

NUM_DRAWS = 4
JITTER = 1e-6  # added to both variances; the benchmark's guard against a singular covariance


def simulate(z: Tensor) -> Tensor:
    """Return four points in the plane, one after the other: (batch, 5) -> (batch, 8)."""
    noise = torch.randn(len(z), NUM_DRAWS, 2)
    points = z[:, None, :2] + noise @ cholesky(z).transpose(-1, -2)
    return points.flatten(start_dim=1)


def cholesky(z: Tensor) -> Tensor:
    """Return the lower triangle L of each covariance L L^T: (batch, 5) -> (batch, 2, 2).

    The standard deviations are theta_3^2 and theta_4^2, the correlation is tanh(theta_5).
    """
    std_1, std_2, correlation = z[:, 2] ** 2, z[:, 3] ** 2, z[:, 4].tanh()
    first = (std_1**2 + JITTER).sqrt()
    below = correlation * std_1 * std_2 / first
    second = (std_2**2 + JITTER - below**2).sqrt()
    rows = [torch.stack([first, torch.zeros_like(first)], dim=-1), torch.stack([below, second], dim=-1)]
    return torch.stack(rows, dim=-2)
