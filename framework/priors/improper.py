"""The improper prior of inferred nodes that a simulator draws."""

import torch
from torch import Tensor

from framework.priors.base import Prior


class ImproperUniform(Prior):
    """The constant density on R^dim, with the identity as its map to unconstrained space. Cannot be sampled."""

    def __init__(self, dim: int) -> None:
        self.dim = self.latent_dim = dim

    def sample(self, num_samples: int) -> Tensor:
        """Raise `ValueError`: the density does not integrate to one."""
        raise ValueError("an improper prior cannot be sampled")

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(theta[:, 0])

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Return theta."""
        return theta

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Return u."""
        return u

    def log_abs_det(self, u: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(u[:, 0])
