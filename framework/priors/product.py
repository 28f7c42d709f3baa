"""Fixed parameters, and products of independent priors."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from framework.errors import ConfigError
from framework.priors.base import Prior, to_float64
from framework.priors.elementwise import Values, parse_values
from framework.priors.wrapper import as_prior


class Fixed(Prior):
    """Parameters with a known value: part of theta, but not of the unconstrained space or of any density."""

    latent_dim = 0

    def __init__(self, value: Values) -> None:
        self.value = parse_values("Fixed", "value", value)
        if not self.value.float().isfinite().all():
            raise ConfigError(f"Fixed.value={value!r}: expected finite numbers, at most 3.4e38 in magnitude")
        self.dim = len(self.value)

    def sample(self, num_samples: int) -> Tensor:
        """Return copies of the value, (num_samples, dim) float32."""
        return self.value.float().repeat(num_samples, 1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return zeros for any theta."""
        return to_float64(theta, self.dim).new_zeros(theta.shape[:-1]).to(theta)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Return a tensor without columns."""
        return theta[..., :0]

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Return a copy of the value for every row of `u`, which has no columns."""
        return self.value.expand(*u.shape[:-1], self.dim).to(u)

    def log_abs_det(self, u: Tensor) -> Tensor:
        """Return zeros."""
        return u.new_zeros(u.shape[:-1])

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The value as both lower and upper bound."""
        return self.value, self.value


class Product(Prior):
    """Independent priors whose parameters are concatenated in the order of `factors`."""

    def __init__(self, factors: Sequence[Prior | TorchDistribution]) -> None:
        if not isinstance(factors, Sequence) or not factors:
            raise ConfigError(f"Product.factors={factors!r}: expected a list of at least one prior")
        self.factors = [as_prior(factor, f"Product.factors[{index}]") for index, factor in enumerate(factors)]
        self._dims = [factor.dim for factor in self.factors]
        self._latent_dims = [factor.latent_dim for factor in self.factors]
        self.dim, self.latent_dim = sum(self._dims), sum(self._latent_dims)

    def sample(self, num_samples: int) -> Tensor:
        """Draw from each factor in turn."""
        return torch.cat([factor.sample(num_samples) for factor in self.factors], dim=-1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Sum of the factors' log-densities."""
        parts = self._split(theta, self._dims)
        return torch.stack([factor.log_prob(part) for factor, part in parts]).sum(0)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Concatenate the factors' unconstrained parameters."""
        parts = self._split(theta, self._dims)
        return torch.cat([factor.to_unconstrained(part) for factor, part in parts], dim=-1)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Concatenate the factors' parameters."""
        parts = self._split(u, self._latent_dims)
        return torch.cat([factor.from_unconstrained(part) for factor, part in parts], dim=-1)

    def log_abs_det(self, u: Tensor) -> Tensor:
        """Sum of the factors' log-volumes."""
        parts = self._split(u, self._latent_dims)
        return torch.stack([factor.log_abs_det(part) for factor, part in parts]).sum(0)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Concatenate the factors' bounds."""
        low, high = zip(*(factor.bounds for factor in self.factors), strict=True)
        return torch.cat(low), torch.cat(high)

    def _split(self, values: Tensor, widths: list[int]) -> Iterable[tuple[Prior, Tensor]]:
        return zip(self.factors, values.split(widths, dim=-1), strict=True)
