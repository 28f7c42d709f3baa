"""Power laws and normal distributions truncated to an interval."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from framework.priors.elementwise import Given, Interval, Values, log_normal_density

MAX_DISTANCE = 37.0
"""Beyond this many standard deviations the normal's tail is smaller than any 64-bit float."""


class Truncated(Interval):
    """A family truncated to [low, high], defined by y = log(G(theta) / G(edge)), with G the untruncated cumulative.

    y rises from `floor` (which may be -inf) to 0 at the edge, and e^y is uniform between the two. The
    edge is `high`, or `low` if `flipped`, where G is the probability above theta.
    """

    flipped: Tensor
    floor: Tensor

    @abstractmethod
    def _log_share(self, theta: Tensor) -> Tensor:
        """Return y."""

    @abstractmethod
    def _from_log_share(self, y: Tensor) -> Tensor:
        """Inverse of `_log_share`."""

    def _tails(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        y = self._log_share(theta)
        # If the interval holds little of G, e^y - e^floor would lose precision; if floor is -inf, expm1 is undefined.
        shallow = self.floor.exp() * (y - self.floor).expm1()
        far = torch.where(self.floor > -1, shallow, y.exp() - self.floor.exp()) / -self.floor.expm1()
        near = y.expm1() / self.floor.expm1()
        return self._swap(far, near)

    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        far, near = self._swap(below, above)
        shallow = torch.log1p(near * self.floor.expm1())
        return self._from_log_share(torch.where(self.floor > -1, shallow, (far + near * self.floor.exp()).log()))

    def _swap(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(self.flipped, second, first), torch.where(self.flipped, first, second)


class PowerLaw(Truncated):
    """Density proportional to theta^exponent from low to high; an exponent of -1 is uniform in log(theta)."""

    def __init__(self, exponent: Values, low: Values, high: Values) -> None:
        self.exponent, self.low, self.high = self._read(exponent=exponent, low=low, high=high)
        reaches_zero = (self.low == 0) & (self.exponent > -1)
        self._require((self.low > 0) | reaches_zero, "low", "more than 0, or 0 with an exponent above -1")
        self._require(self.low < self.high, "low", "less than high={high}")
        # G is theta^k. No formula here loses precision as k goes to 0, so a tiny k replaces 0, the logarithm.
        k = self.exponent + 1
        self._k = torch.where(k.abs() < 1e-12, 1e-12, k)
        self.flipped = self._k < 0
        self._edge, self._other_edge = self._swap(self.high, self.low)
        self.floor = self._k * (self._other_edge.log() - self._edge.log())
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        norm = self._k.abs().log() - (-self.floor.expm1()).log() - self._edge.log()
        return norm + torch.special.xlogy(self._k - 1, theta / self._edge)

    def _log_share(self, theta: Tensor) -> Tensor:
        return self._k * (theta.log() - self._edge.log())

    def _from_log_share(self, y: Tensor) -> Tensor:
        return self._edge * (y / self._k).exp()


class LogUniform(PowerLaw):
    """Uniform in log(theta) from low to high, both positive."""

    def __init__(self, low: Values, high: Values) -> None:
        super().__init__(-1.0, low, high)


class TruncatedNormal(Truncated):
    """Normal with the given mean and std (or `loc`, `scale`), truncated to [low, high]; a bound may be infinite."""

    def __init__(
        self,
        mean: Given = None,
        std: Given = None,
        low: Given = None,
        high: Given = None,
        *,
        loc: Given = None,
        scale: Given = None,
    ) -> None:
        also, infinite = {"mean": {"loc": loc}, "std": {"scale": scale}}, ("low", "high")
        self.mean, self.std, self.low, self.high = self._read(
            mean=mean, std=std, low=low, high=high, also=also, may_be_infinite=infinite
        )
        self._require(self.std > 0, "std", "more than 0")
        self._require(self.low < self.high, "low", "less than high={high}")
        lower, upper = (self.low - self.mean) / self.std, (self.high - self.mean) / self.std
        near = f"within {MAX_DISTANCE:g} std={{std}} of mean={{mean}}"
        self._require(lower < MAX_DISTANCE, "low", near)
        self._require(upper > -MAX_DISTANCE, "high", near)
        # G is counted from the far end of the tail with more mass, so that both bounds may lie far out in one tail.
        self.flipped = lower + upper > 0
        self._sign = torch.where(self.flipped, -1.0, 1.0)
        bottom, top = torch.where(self.flipped, -upper, lower), torch.where(self.flipped, -lower, upper)
        self._log_top = torch.special.log_ndtr(top)
        self.floor = torch.special.log_ndtr(bottom) - self._log_top
        self._require_resolution()

    def _log_density(self, theta: Tensor) -> Tensor:
        log_mass = self._log_top + (-self.floor.expm1()).log()
        return log_normal_density((theta - self.mean) / self.std) - self.std.log() - log_mass

    def _log_share(self, theta: Tensor) -> Tensor:
        return torch.special.log_ndtr(self._sign * (theta - self.mean) / self.std) - self._log_top

    def _from_log_share(self, y: Tensor) -> Tensor:
        log_below = y + self._log_top
        lower, upper = torch.special.ndtri(log_below.exp()), -torch.special.ndtri(-log_below.expm1())
        z = torch.where(log_below < -math.log(2), lower, upper)
        return self.mean + self._sign * self.std * z
