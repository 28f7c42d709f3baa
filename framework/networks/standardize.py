"""Standardisation with constants computed from the training data before the first step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from framework.errors import ConfigError

MODES = ("independent", "structured", "none")


class Standardize(nn.Module):
    """(x - mean) / std with constants from the data: (batch, *shape) to the same shape.

    `independent`: a mean and std per entry; `structured`: a single mean and std for the whole
    value, for series, images and sets, whose entries belong together; `none`: the identity.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], mode: str = "independent") -> None:
        super().__init__()
        if mode not in MODES:
            raise ConfigError(f"network.standardize_x={mode}: expected one of {', '.join(MODES)}")
        self.mode = mode
        size = tuple(shape) if mode == "independent" else (1,) * len(shape)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Compute mean and std of `x`; constant entries are shifted but not scaled."""
        if self.mode == "none":
            return
        dims = 0 if self.mode == "independent" else tuple(range(x.ndim))
        # In float64, because sums over a million float32 rows lose precision.
        std, mean = torch.std_mean(x.double(), dim=dims, keepdim=self.mode == "structured")
        std, mean = std.reshape(self.std.shape), mean.reshape(self.mean.shape)
        constant = std <= 1e-7 * mean.abs().clamp(min=1e-30)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(constant, torch.ones_like(std), std))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise."""
        return (x - self.mean) / self.std

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return z * self.std + self.mean

    def log_abs_det(self) -> Tensor:
        """Return log |dz / dx|, a scalar."""
        return -self.std.log().sum()
