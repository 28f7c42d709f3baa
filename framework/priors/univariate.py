"""Univariate families in closed form; list arguments give several independent parameters."""

import math

import torch
from torch import Tensor

from framework.priors.elementwise import Elementwise, Given, Interval, Values, log_normal_density


class Normal(Elementwise):
    """Normal with mean and standard deviation, which torch calls loc and scale; u = (theta - mean) / std."""

    def __init__(self, mean: Given = None, std: Given = None, *, loc: Given = None, scale: Given = None) -> None:
        self.mean, self.std = self._read(mean=mean, std=std, also={"mean": {"loc": loc}, "std": {"scale": scale}})
        self._require(self.std > 0, "std", "more than 0")
        self.low, self.high = torch.full_like(self.mean, -math.inf), torch.full_like(self.mean, math.inf)
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        return log_normal_density(self._to_normal(theta)) - self.std.log()

    def _to_normal(self, theta: Tensor) -> Tensor:
        return (theta - self.mean) / self.std

    def _from_normal(self, u: Tensor) -> Tensor:
        return self.mean + self.std * u


class LogNormal(Elementwise):
    """Positive parameters whose natural logarithm is normal with `mean` and `std`, which torch calls loc and scale."""

    def __init__(self, mean: Given = None, std: Given = None, *, loc: Given = None, scale: Given = None) -> None:
        self.mean, self.std = self._read(mean=mean, std=std, also={"mean": {"loc": loc}, "std": {"scale": scale}})
        self._require(self.std > 0, "std", "more than 0")
        self.low, self.high = torch.zeros_like(self.mean), torch.full_like(self.mean, math.inf)
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        density = log_normal_density(self._to_normal(theta)) - self.std.log() - theta.log()
        return torch.where(theta > 0, density, -math.inf)

    def _to_normal(self, theta: Tensor) -> Tensor:
        return (theta.log() - self.mean) / self.std

    def _from_normal(self, u: Tensor) -> Tensor:
        return (self.mean + self.std * u).exp()


class Uniform(Interval):
    """Constant density from low to high."""

    def __init__(self, low: Values, high: Values) -> None:
        self.low, self.high = self._read(low=low, high=high)
        self._require(self.low < self.high, "low", "less than high={high}")
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        return -(self.high - self.low).log().expand_as(theta)

    def _tails(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        width = self.high - self.low
        return (theta - self.low) / width, (self.high - theta) / width

    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        return above * self.low + below * self.high


class Triangular(Interval):
    """Density rising linearly from 0 at low to its peak at mode, and falling to 0 at high."""

    def __init__(self, low: Values, mode: Values, high: Values) -> None:
        self.low, self.mode, self.high = self._read(low=low, mode=mode, high=high)
        self._require(self.low < self.high, "low", "less than high={high}")
        in_range = (self.low <= self.mode) & (self.mode <= self.high)
        self._require(in_range, "mode", "between low={low} and high={high}")
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        rise = (theta - self.low) / (self.mode - self.low)
        fall = (self.high - theta) / (self.high - self.mode)
        height = torch.where(theta < self.mode, rise, torch.where(theta > self.mode, fall, 1.0))
        return height.log() + math.log(2) - (self.high - self.low).log()

    def _tails(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        # On each side of the mode, both tails are sums of positive terms, so neither loses precision.
        width = self.high - self.low
        rise = self.mode - self.low
        fall = self.high - self.mode
        from_low, to_high = theta - self.low, self.high - theta
        left = theta < self.mode
        below_left = from_low.square() / (width * rise)
        below_right = (width * (theta - self.mode) + to_high * from_low) / (width * fall)
        above_left = (width * (self.mode - theta) + from_low * to_high) / (width * rise)
        above_right = to_high.square() / (width * fall)
        return torch.where(left, below_left, below_right), torch.where(left, above_left, above_right)

    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        width = self.high - self.low
        rise = self.mode - self.low
        fall = self.high - self.mode
        left = below * width < rise
        return torch.where(left, self.low + (below * width * rise).sqrt(), self.high - (above * width * fall).sqrt())


class Sine(Interval):
    """Density proportional to sin(theta), as for the polar angle of an isotropic direction."""

    _offset = 0.0  # the density is sin(theta + offset), positive on an interval of length pi

    def __init__(self, low: Values = 0.0, high: Values = math.pi) -> None:
        self.low, self.high = self._read(low=low, high=high)
        first, last = 0.0 - self._offset, math.pi - self._offset
        self._require(self.low >= first, "low", f"an angle in radians, at least {first}")
        self._require(self.high <= last, "high", f"an angle in radians, at most {last}")
        self._require(self.low < self.high, "low", "less than high={high}")
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        return (theta + self._offset).sin().log() - (2 * self._half_norm()).log()

    def _tails(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        # cos(a) - cos(b) = 2 sin((b + a) / 2) sin((b - a) / 2) does not lose precision if a is near b.
        below = ((theta + self.low) / 2 + self._offset).sin() * ((theta - self.low) / 2).sin()
        above = ((self.high + theta) / 2 + self._offset).sin() * ((self.high - theta) / 2).sin()
        return below / self._half_norm(), above / self._half_norm()

    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        # (1 - cos) / 2 = sin^2(half angle) and (1 + cos) / 2 = cos^2(half angle) are both linear in the tails.
        low, high = (self.low + self._offset) / 2, (self.high + self._offset) / 2
        sin_squared = above * low.sin().square() + below * high.sin().square()
        cos_squared = above * low.cos().square() + below * high.cos().square()
        return 2 * torch.atan2(sin_squared.sqrt(), cos_squared.sqrt()) - self._offset

    def _half_norm(self) -> Tensor:
        return ((self.high + self.low) / 2 + self._offset).sin() * ((self.high - self.low) / 2).sin()


class Cosine(Sine):
    """Density proportional to cos(theta), as for the latitude or declination of an isotropic direction."""

    _offset = math.pi / 2

    def __init__(self, low: Values = -math.pi / 2, high: Values = math.pi / 2) -> None:
        super().__init__(low, high)
