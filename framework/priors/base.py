"""What a prior must offer, and the rounding that keeps parameters inside their support."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

_ROUNDING = 1e-6  # of 32-bit floats, relative, with some to spare


class Prior(ABC):
    """The distribution of one node's parameters, with a map to an unconstrained space.

    Estimators work in the unconstrained space, where every real vector is valid; parameters
    whose value is fixed have no place in it. Supports are open there: `from_unconstrained` never
    returns a bound itself, and `to_unconstrained` treats a bound as the next number inside.
    Everything is computed on the CPU in 64 bits, and returned on the device and in the floating
    point type of the input.
    """

    dim: int
    """Number of the user's parameters."""
    latent_dim: int
    """Dimension of the unconstrained space."""

    @abstractmethod
    def sample(self, num_samples: int) -> Tensor:
        """Draw (num_samples, dim) parameters, float32, from torch's global generator."""

    @abstractmethod
    def log_prob(self, theta: Tensor) -> Tensor:
        """Map (batch, dim) to (batch,): -inf outside the support; fixed parameters add nothing."""

    @abstractmethod
    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Map (batch, dim) to (batch, latent_dim); values outside the support are moved to its edge."""

    @abstractmethod
    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Map (batch, latent_dim) to (batch, dim), always inside the support."""

    @abstractmethod
    def log_abs_det(self, u: Tensor) -> Tensor:
        """Map (batch, latent_dim) to (batch,): log |d theta / d u| over the parameters that are not fixed."""

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of each parameter, (dim,) float64; infinite where a prior does not tell."""
        infinite = torch.full((self.dim,), math.inf, dtype=torch.float64)
        return -infinite, infinite

    def is_outside(self, theta: Tensor) -> Tensor:
        """Map (batch, dim) to (batch,): whether theta has no density; what rounding has moved over a bound has one."""
        (low, high), wide = self.bounds, to_float64(theta, self.dim)
        wide = torch.where((wide < low) & (wide >= low - _ROUNDING * low.abs()), low, wide)
        wide = torch.where((wide > high) & (wide <= high + _ROUNDING * high.abs()), high, wide)
        return (wide < low).any(-1) | (wide > high).any(-1) | self.log_prob(wide).isneginf()


def to_float64(values: Tensor, width: int) -> Tensor:
    """Return (..., width) values for computing: on the CPU, in 64 bits."""
    assert values.shape[-1] == width, f"expected {width} columns, got shape {tuple(values.shape)}"
    return values.to("cpu", torch.float64)


def clamp_inside(theta: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
    """Round `theta` to `dtype` without leaving the open interval from `low` to `high`."""
    return theta.to(dtype).clamp(-_largest_below(-low, dtype), _largest_below(high, dtype))


def _largest_below(bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest finite number of type `dtype` below `bound`, subnormal numbers left out."""
    info = torch.finfo(dtype)
    rounded = bound.clamp(info.min, info.max).to(dtype)
    next_lower = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
    below = torch.where(rounded.double() < bound, rounded, next_lower)
    return torch.where(below.abs() < info.tiny, -info.tiny, below)
