"""Priors from any continuous distribution of torch.distributions."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import Independent, Transform, biject_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import IndependentTransform

from framework.errors import ConfigError
from framework.priors.base import Prior, clamp_inside, to_float64

_REPR_LENGTH = 80


class Distribution(Prior):
    """A torch distribution over a vector; a scalar has dim 1, and a batch is a vector of independent parameters.

    `torch.distributions.biject_to` of the support defines the unconstrained space. For a simplex
    (Dirichlet) it has one dimension less than theta, and densities are those of the first dim - 1 parameters.
    """

    def __init__(self, distribution: TorchDistribution) -> None:
        family = type(distribution).__name__
        if not isinstance(distribution, TorchDistribution):
            raise ConfigError(f"Distribution.distribution={distribution!r}: expected a torch.distributions object")
        self.distribution = _as_vector(distribution, family)
        self.dim = self.distribution.event_shape[0]
        self._support = _coordinate_support(self.distribution, family)
        self._transform = _transform_to(self._support, family)
        self.low, self.high = _bounds(self._support, self.dim, family)
        self.latent_dim = self._transform.inverse_shape(torch.Size([self.dim]))[-1]
        with torch.random.fork_rng(devices=[]):  # some distributions only accept values of their parameters' type
            self._dtype = self.distribution.sample().dtype

    def sample(self, num_samples: int) -> Tensor:
        """Draw (num_samples, dim) parameters, float32."""
        return clamp_inside(self.distribution.sample((num_samples,)), self.low, self.high, torch.float32)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log-density, -inf outside the support."""
        wide = to_float64(theta, self.dim)
        inside = self._support.check(wide)
        if self._support.event_dim == 0:
            inside = inside.all(-1)
        # torch rejects values outside the support, so replace them by a valid one.
        valid = torch.where(inside.unsqueeze(-1), wide, self._transform(wide.new_zeros(self.latent_dim)))
        density = self.distribution.log_prob(clamp_inside(valid, self.low, self.high, self._dtype))
        return torch.where(inside, density, -math.inf).to(theta)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Map theta to the real numbers."""
        inside = clamp_inside(to_float64(theta, self.dim), self.low, self.high, theta.dtype)
        return self._transform.inv(inside.double()).to(theta)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Map real numbers to the support."""
        theta = self._transform(to_float64(u, self.latent_dim))
        return clamp_inside(theta, self.low, self.high, u.dtype).to(u)

    def log_abs_det(self, u: Tensor) -> Tensor:
        """Return log |d theta / d u|."""
        wide = to_float64(u, self.latent_dim)
        theta = clamp_inside(self._transform(wide), self.low, self.high, torch.float64)
        return self._transform.log_abs_det_jacobian(wide, theta).to(u)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The bounds of every coordinate."""
        return self.low, self.high


def as_prior(value: object, key: str) -> Prior:
    """Return a `Prior` unchanged and wrap a torch distribution; error messages start with `key`."""
    if isinstance(value, Prior):
        return value
    if not isinstance(value, TorchDistribution):
        shown = " ".join(repr(value).split())[:_REPR_LENGTH]
        raise ConfigError(f"{key}={shown}: expected a prior of framework.priors or torch.distributions")
    try:
        return Distribution(value)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _as_vector(distribution: TorchDistribution, family: str) -> TorchDistribution:
    batch_shape, event_shape = distribution.batch_shape, distribution.event_shape
    if len(batch_shape) + len(event_shape) > 1:
        raise ConfigError(
            f"{family}: has batch_shape {tuple(batch_shape)} and event_shape {tuple(event_shape)}; "
            "expected a distribution over a vector, with at most one dimension in total"
        )
    if event_shape:
        return distribution
    return Independent(distribution if batch_shape else distribution.expand(torch.Size([1])), 1)


def _coordinate_support(distribution: TorchDistribution, family: str) -> Constraint:
    """Return the constraint on each coordinate or, if they depend on each other, on the whole vector."""
    try:
        support = distribution.support
    except NotImplementedError:
        support = None
    if support is None:
        raise ConfigError(f"{family}: does not define its support; expected a distribution that does")
    if support.is_discrete:
        raise ConfigError(f"{family}: is a discrete distribution; expected a continuous one")
    while hasattr(support, "base_constraint"):  # Independent and MixtureSameFamily wrap it
        support = support.base_constraint
    return support


def _transform_to(support: Constraint, family: str) -> Transform:
    try:
        transform = biject_to(support)
    except NotImplementedError as error:
        raise ConfigError(
            f"{family}: torch has no bijection from the real numbers to its support, {support}; "
            "expected a support that is real, bounded below or above or both, or a simplex"
        ) from error
    return IndependentTransform(transform, 1) if support.event_dim == 0 else transform


def _bounds(support: Constraint, dim: int, family: str) -> tuple[Tensor, Tensor]:
    """Return the bounds of every coordinate."""
    widest = (0.0, 1.0) if support.event_dim else (-math.inf, math.inf)
    low = torch.as_tensor(getattr(support, "lower_bound", widest[0]), dtype=torch.float64)
    high = torch.as_tensor(getattr(support, "upper_bound", widest[1]), dtype=torch.float64)
    try:
        return low.expand(dim), high.expand(dim)
    except RuntimeError as error:
        raise ConfigError(f"{family}: its components have different supports; expected the same for all") from error
