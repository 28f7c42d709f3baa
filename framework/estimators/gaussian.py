"""q(u | s) = N(mu(s), Sigma): fast, exact for linear models with Gaussian noise."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from framework.networks import MLP


class Gaussian(nn.Module):
    """A normal distribution with full covariance whose mean is an MLP of the summary.

    Sigma = L L^T with L lower triangular and a positive diagonal; with `covariance=constant` L is
    a learned constant, with `conditional` it depends on the summary. Trained by maximum likelihood,
    as in Papamakarios & Murray (2016), section 2.3, with one component.
    """

    FILES: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("",)}

    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        hidden_dim: int = 128,
        num_layers: int = 3,
        covariance: str = "constant",
    ) -> None:
        super().__init__()
        if covariance not in ("constant", "conditional"):
            raise ValueError(f"covariance={covariance}: expected constant or conditional")
        self.latent_dim = latent_dim
        self.num_factors = latent_dim * (latent_dim + 1) // 2
        conditional = covariance == "conditional"
        self.mean = MLP((context_dim,), latent_dim + self.num_factors * conditional, hidden_dim, num_layers)
        self.factors = None if conditional else nn.Parameter(torch.zeros(self.num_factors))

    def log_prob(self, u: Tensor, s: Tensor) -> Tensor:
        """Return log q(u | s): (batch, latent_dim), (batch, context_dim) to (batch,)."""
        mean, factor = self._moments(s)
        white = torch.linalg.solve_triangular(factor, (u - mean).unsqueeze(-1), upper=False).squeeze(-1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * white.square().sum(-1) - log_det - 0.5 * self.latent_dim * math.log(2 * math.pi)

    def sample(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one u for each row of s; return (batch, latent_dim) and log q of shape (batch,)."""
        mean, factor = self._moments(s)
        white = torch.randn_like(mean)
        u = mean + (factor @ white.unsqueeze(-1)).squeeze(-1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return u, -0.5 * white.square().sum(-1) - log_det - 0.5 * self.latent_dim * math.log(2 * math.pi)

    def _moments(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (batch, d) and the lower-triangular factor (batch or 1, d, d)."""
        output = self.mean(s)
        mean, factors = output[:, : self.latent_dim], output[:, self.latent_dim :]
        if self.factors is not None:
            factors = self.factors.unsqueeze(0)
        rows, columns = torch.tril_indices(self.latent_dim, self.latent_dim, device=s.device)
        raw = torch.zeros(len(factors), self.latent_dim, self.latent_dim, device=s.device, dtype=s.dtype)
        raw[:, rows, columns] = factors
        # exp keeps the diagonal positive; the bound prevents overflow after one bad step.
        diagonal = raw.diagonal(dim1=-2, dim2=-1).clamp(-15, 15).exp()
        return mean, raw.tril(-1) + torch.diag_embed(diagonal)
