"""The interface of priors, and the rounding that keeps parameters inside their support."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

_ROUNDING = 1e-6  # relative rounding error of 32-bit floats, with a margin


class Prior(ABC):
    """The distribution of one node's parameters, with a map to an unconstrained space.

    Estimators work in the unconstrained space, where every real vector is valid; fixed parameters
    are not part of it. Supports are treated as open intervals: `from_unconstrained` never returns a
    bound, and `to_unconstrained` treats a bound as the nearest number inside. Everything is
    computed on the CPU in 64 bits, and returned on the device and in the floating-point type of
    the input.
    """

    dim: int
    """Number of parameters."""
    latent_dim: int
    """Dimension of the unconstrained space."""

    @abstractmethod
    def sample(self, num_samples: int) -> Tensor:
        """Draw (num_samples, dim) parameters, float32, from torch's global generator."""

    @abstractmethod
    def log_prob(self, theta: Tensor) -> Tensor:
        """Return the log-density, (batch, dim) to (batch,): -inf outside the support; fixed parameters add nothing."""

    @abstractmethod
    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Map (batch, dim) to (batch, latent_dim); values outside the support are clamped to it."""

    @abstractmethod
    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Map (batch, latent_dim) to (batch, dim), always inside the support."""

    @abstractmethod
    def log_abs_det(self, u: Tensor) -> Tensor:
        """Return log |d theta / d u| over the parameters that are not fixed, (batch, latent_dim) to (batch,)."""

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The lower and upper bound of each parameter, (dim,) float64; infinite unless a prior defines them."""
        infinite = torch.full((self.dim,), math.inf, dtype=torch.float64)
        return -infinite, infinite

    def is_outside(self, theta: Tensor) -> Tensor:
        """Return whether theta has zero density, allowing for rounding at the bounds, (batch, dim) to (batch,)."""
        (low, high), wide = self.bounds, to_float64(theta, self.dim)
        wide = torch.where((wide < low) & (wide >= low - _ROUNDING * low.abs()), low, wide)
        wide = torch.where((wide > high) & (wide <= high + _ROUNDING * high.abs()), high, wide)
        return (wide < low).any(-1) | (wide > high).any(-1) | self.log_prob(wide).isneginf()


def to_float64(values: Tensor, width: int) -> Tensor:
    """Return the (..., width) values on the CPU in 64 bits."""
    assert values.shape[-1] == width, f"expected {width} columns, got shape {tuple(values.shape)}"
    return values.to("cpu", torch.float64)


def clamp_inside(theta: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
    """Round `theta` to `dtype` without leaving the open interval from `low` to `high`."""
    return theta.to(dtype).clamp(-_largest_below(-low, dtype), _largest_below(high, dtype))


def _largest_below(bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest finite number of type `dtype` below `bound`, skipping subnormal numbers."""
    info = torch.finfo(dtype)
    rounded = bound.clamp(info.min, info.max).to(dtype)
    next_lower = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
    below = torch.where(rounded.double() < bound, rounded, next_lower)
    return torch.where(below.abs() < info.tiny, -info.tiny, below)
