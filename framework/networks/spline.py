"""The monotonic spline of neural spline flows."""

import math

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

_BOUND = 5.0


class RationalQuadraticSpline(Transform):
    """Monotonic rational-quadratic spline on [-5, 5], the identity outside (Durkan et al. 2019, eqs. 4 to 8).

    The same function of the same parameters as zuko's `MonotonicRQSTransform`, in half the time,
    because small flows spend most of each step here. `sizes` (..., 2, num_bins) are the
    unconstrained widths and heights of the bins, `slopes` (..., num_bins - 1) the unconstrained
    derivatives at the inner knots; both are bounded from below by `slope`.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, sizes: Tensor, slopes: Tensor, slope: float = 1e-3) -> None:
        super().__init__()
        limit = -math.log(slope)
        edges = _soft_clip(sizes, limit / 2).exp().cumsum(-1)
        zero, one = torch.zeros_like(sizes[..., :1]), torch.ones_like(slopes[..., :1])
        # The knots are stored in the unit square: scaling both axes equally changes no derivative.
        self.knots = torch.cat((zero, edges / edges[..., -1:]), dim=-1)
        self.slopes = torch.cat((one, _soft_clip(slopes, limit).exp(), one), dim=-1)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log dy / dx, each with the shape of x."""
        inside = x.clamp(-_BOUND, _BOUND)
        u = inside / (2 * _BOUND) + 0.5
        x0, x1, y0, y1, d0, d1 = self._bin(u, axis=0)
        width = x1 - x0
        s, z = (y1 - y0) / width, (u - x0) / width
        q = z * (1 - z)
        bend = (d0 + d1 - 2 * s) * q
        ratio = s / (s + bend)
        y = y0 + width * ratio * (s * z + (d0 - s) * q)
        ladj = (ratio.square() * (torch.lerp(d0, d1, z) - bend)).log()
        # The derivatives at the bounds are 1, so that ladj is 0 there, as it is outside.
        return (2 * y - 1) * _BOUND + (x - inside), ladj

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log dy / dx."""
        return self.call_and_ladj(x)[1]

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        inside = y.clamp(-_BOUND, _BOUND)
        v = inside / (2 * _BOUND) + 0.5
        x0, x1, y0, y1, d0, d1 = self._bin(v, axis=1)
        height, rise = y1 - y0, v - y0
        s = height / (x1 - x0)
        bend = (d0 + d1 - 2 * s) * rise
        a = height * (s - d0) + bend
        b = height * d0 - bend
        c = -s * rise
        z = 2 * c / (-b - (b.square() - 4 * a * c).sqrt())
        return (2 * (x0 + z * (x1 - x0)) - 1) * _BOUND + (y - inside)

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, ...]:
        """Return x, y and slope of the knots to the left and right of `value` on the axis: x0, x1, y0, y1, d0, d1."""
        index = (self.knots[..., axis, 1:-1] < value.unsqueeze(-1)).sum(dim=-1, keepdim=True)
        ends = torch.cat((index, index + 1), dim=-1).unsqueeze(-2)
        table = torch.cat((self.knots, self.slopes.unsqueeze(-2)), dim=-2)
        table = table.expand(*value.shape, -1, -1)
        return table.gather(-1, ends.expand(*value.shape, 3, 2)).flatten(-2).unbind(-1)


def _soft_clip(x: Tensor, limit: float) -> Tensor:
    """Squash x into (-limit, limit)."""
    return x / (1 + x.abs() / limit)
