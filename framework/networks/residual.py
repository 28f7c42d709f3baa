"""Residuals of a linear regression of theta on the evidence, fitted in closed form before the first step."""

import torch
from torch import Tensor, nn

MAX_FEATURES = 1000  # with more features the regression is skipped, because its cost grows with their cube
_NUM_PENALTIES = 25


class ResidualStandardize(nn.Module):
    """z = (u - W e - b) / sigma, with constants fitted once: u (batch, dim), e (batch, num_features) to (batch, dim).

    W is a ridge regression whose penalty minimises the generalised cross-validation score (Golub,
    Heath & Wahba 1979); sigma is the standard deviation of the residuals. If the posterior is linear
    and Gaussian, z is standard normal and nothing is left to learn; if it is narrow compared to
    the prior, z is still of order one. With no features, or more than MAX_FEATURES, z = u.
    """

    weight: Tensor
    bias: Tensor
    sigma: Tensor

    def __init__(self, num_features: int, dim: int) -> None:
        super().__init__()
        self.num_features = num_features if num_features <= MAX_FEATURES else 0
        self.register_buffer("weight", torch.zeros(self.num_features, dim))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("sigma", torch.ones(dim))

    @torch.no_grad()
    def fit(self, u: Tensor, e: Tensor) -> None:
        """Regress u on e."""
        mean_u, mean_e = u.double().mean(0), e.double().mean(0)
        weight = _ridge(e.double() - mean_e, u.double() - mean_u)
        residual = u.double() - mean_u - (e.double() - mean_e) @ weight
        self.weight.copy_(weight)
        self.bias.copy_(mean_u - mean_e @ weight)
        self.sigma.copy_(residual.std(0).clamp(min=1e-6))

    def forward(self, u: Tensor, e: Tensor | None) -> Tensor:
        """Return z, or u if there are no features."""
        return u if e is None else (u - torch.addmm(self.bias, e, self.weight)) / self.sigma

    def inverse(self, z: Tensor, e: Tensor | None) -> Tensor:
        """Return u."""
        return z if e is None else z * self.sigma + torch.addmm(self.bias, e, self.weight)

    def log_abs_det(self) -> Tensor:
        """Return log |dz / du|, a scalar."""
        return -self.sigma.log().sum()


def _ridge(features: Tensor, targets: Tensor) -> Tensor:
    """Return the weights (num_features, dim) for the best penalty; both arguments must have mean zero."""
    num_rows = len(features)
    eigenvalues, vectors = torch.linalg.eigh(features.mT @ features)
    eigenvalues = eigenvalues.clamp(min=0)
    projected = vectors.mT @ (features.mT @ targets)
    total = targets.square().sum()
    best_score, best = torch.inf, torch.zeros_like(projected)
    for penalty in num_rows * torch.logspace(-8, 2, _NUM_PENALTIES, dtype=features.dtype):
        weight = projected / (eigenvalues + penalty)[:, None]
        rss = total - 2 * (weight * projected).sum() + (eigenvalues[:, None] * weight.square()).sum()
        freedom = num_rows - 1 - (eigenvalues / (eigenvalues + penalty)).sum()
        score = (rss / freedom.square()).item() if freedom > 0 else torch.inf
        if score < best_score:
            best_score, best = score, weight
    return vectors @ best
