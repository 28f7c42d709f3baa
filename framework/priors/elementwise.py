"""The base class of all univariate families of priors."""

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from framework.errors import ConfigError
from framework.priors.base import Prior, clamp_inside, to_float64

Values = float | Sequence[float] | Tensor
"""One number for all parameters, or one per parameter."""

Given = Values | None
"""An argument that has two names, of which one is given."""

MIN_RESOLUTION = 100
"""Minimum width of the central two thirds of a prior, in units of the spacing of 32-bit floats."""


def parse_values(owner: str, name: str, value: Given) -> Tensor:
    """Return a one-dimensional float64 tensor, or raise `ConfigError`."""
    try:
        tensor = torch.atleast_1d(torch.as_tensor(value, dtype=torch.float64, device="cpu"))
    except (TypeError, ValueError, RuntimeError):
        tensor = torch.empty(0)
    if tensor.ndim != 1 or len(tensor) == 0 or tensor.isnan().any():
        raise ConfigError(f"{owner}.{name}={value!r}: expected a number, or a list with one number per parameter")
    return tensor


def log_normal_density(z: Tensor) -> Tensor:
    """Log-density of the standard normal."""
    return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)


class Elementwise(Prior):
    """Independent parameters, each standard normal in the unconstrained space.

    A subclass reads its parameters with `_read`, checks them with `_require`, sets the bounds of
    its support, `low` and `high`, and ends its constructor with `_require_resolution`. The three
    abstract methods map float64 (batch, dim) to the same shape, element by element.
    """

    low: Tensor
    high: Tensor

    @abstractmethod
    def _log_density(self, theta: Tensor) -> Tensor:
        """Log-density at `theta` between `low` and `high`; arbitrary outside."""

    @abstractmethod
    def _to_normal(self, theta: Tensor) -> Tensor:
        """Map the prior to the standard normal: u = Phi^-1(F(theta)), for `theta` inside the support."""

    @abstractmethod
    def _from_normal(self, u: Tensor) -> Tensor:
        """Inverse of `_to_normal`; the result may be rounded to a bound or beyond."""

    def sample(self, num_samples: int) -> Tensor:
        """Draw (num_samples, dim) parameters, float32."""
        theta = self._from_normal(torch.randn(num_samples, self.dim, dtype=torch.float64))
        return clamp_inside(theta, self.low, self.high, torch.float32)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Sum of the parameters' log-densities, -inf outside the support."""
        wide = to_float64(theta, self.dim)
        inside = (self.low <= wide) & (wide <= self.high)
        return torch.where(inside, self._log_density(wide), -math.inf).sum(-1).to(theta)

    def to_unconstrained(self, theta: Tensor) -> Tensor:
        """Map theta to u, which is standard normal under the prior."""
        inside = clamp_inside(to_float64(theta, self.dim), self.low, self.high, theta.dtype)
        return self._to_normal(inside.double()).to(theta)

    def from_unconstrained(self, u: Tensor) -> Tensor:
        """Map u to theta, inside the support."""
        theta = self._from_normal(to_float64(u, self.latent_dim))
        return clamp_inside(theta, self.low, self.high, u.dtype).to(u)

    def log_abs_det(self, u: Tensor) -> Tensor:
        """Return log |d theta / d u|, using that p(theta) |d theta / d u| is the standard normal density of u."""
        wide = to_float64(u, self.latent_dim)
        theta = clamp_inside(self._from_normal(wide), self.low, self.high, torch.float64)
        return (log_normal_density(wide) - self._log_density(theta)).sum(-1).to(u)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The bounds of the support."""
        return self.low, self.high

    def _read(
        self,
        *,
        may_be_infinite: Collection[str] = (),
        also: Mapping[str, Mapping[str, Given]] = MappingProxyType({}),
        **values: Given,
    ) -> list[Tensor]:
        """Broadcast the parameters against each other and set `dim`; raise `ConfigError` if that fails.

        `also` holds arguments given under alternative names, {"mean": {"loc": ...}}.
        """
        given = {name: self._one_of({name: value, **also.get(name, {})}) for name, value in values.items()}
        self._typed = {name: typed for name, (typed, _) in given.items()}
        tensors = {name: parse_values(self._family, typed, value) for name, (typed, value) in given.items()}
        self.dim = self.latent_dim = max(len(tensor) for tensor in tensors.values())
        for name, tensor in tensors.items():
            if len(tensor) not in (1, self.dim):
                raise ConfigError(
                    f"{self._family}.{self._typed[name]}: has {len(tensor)} values, but another argument has "
                    f"{self.dim}; expected one value per parameter, or a single one for all"
                )
        self._values = {name: tensor.expand(self.dim) for name, tensor in tensors.items()}
        for name in self._values.keys() - set(may_be_infinite):
            self._require(self._values[name].isfinite(), name, "a finite number")
        return list(self._values.values())

    def _one_of(self, synonyms: Mapping[str, Given]) -> tuple[str, Given]:
        """Return the name and value of the one argument that is given; raise `ConfigError` for none or several."""
        given = {name: value for name, value in synonyms.items() if value is not None}
        if len(given) > 1:
            typed = " and ".join(f"{name}={value!r}" for name, value in given.items())
            raise ConfigError(f"{self._family}: {typed} are two names for the same argument; give only one of them")
        if not given and len(synonyms) > 1:
            raise ConfigError(f"{self._family}: expected {' or '.join(synonyms)}")
        return next(iter((given or synonyms).items()))

    def _require(self, ok: Tensor, name: str, expected: str) -> None:
        """Raise `ConfigError` for the first parameter that is not `ok`; `expected` may name arguments in braces."""
        if not ok.all():
            first = int((~ok).nonzero()[0])
            values = {key: f"{tensor[first].item():.10g}" for key, tensor in self._values.items()}
            index = f"[{first}]" if self.dim > 1 else ""
            typed = f"{self._family}.{self._typed[name]}{index}"
            raise ConfigError(f"{typed}={values[name]}: expected {expected.format(**values)}")

    def _require_resolution(self) -> None:
        """Raise `ConfigError` if 32-bit floats, in which parameters are stored, cannot resolve the prior."""
        lower, upper = self._from_normal(torch.tensor([[-1.0], [1.0]], dtype=torch.float64).expand(2, self.dim))
        scale, info = torch.maximum(lower.abs(), upper.abs()), torch.finfo(torch.float32)
        resolved = (upper - lower >= MIN_RESOLUTION * torch.clamp(info.eps * scale, min=info.tiny)) & (scale < info.max)
        if not resolved.all():
            first = int((~resolved).nonzero()[0])
            raise ConfigError(
                f"{self._family}: most of parameter {first} lies from {lower[first]:.12g} to {upper[first]:.12g}, "
                "which 32-bit floats cannot resolve; use other units, subtract an offset, or take the logarithm"
            )

    @property
    def _family(self) -> str:
        return type(self).__name__


class Interval(Elementwise):
    """A family defined by its cumulative distribution function, given as the probabilities of both tails.

    Using both tails keeps full precision at both ends of the support.
    """

    @abstractmethod
    def _tails(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return P(below theta) and P(above theta)."""

    @abstractmethod
    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        """Inverse of `_tails`."""

    def _to_normal(self, theta: Tensor) -> Tensor:
        below, above = self._tails(theta)
        distance = torch.special.ndtri(torch.minimum(below, above).clamp_min(torch.finfo(torch.float64).tiny))
        return torch.where(below < above, distance, -distance)

    def _from_normal(self, u: Tensor) -> Tensor:
        tails = torch.special.ndtr(torch.stack((u, -u))).clamp_min(torch.finfo(torch.float64).tiny)
        return self._quantile(tails[0], tails[1])
