"""Two moons: a crescent of data whose place does not tell theta from its mirror image.

Source: Greenberg et al. 2019, "Automatic posterior transformation for likelihood-free inference".
"""

import math

import torch
from torch import Tensor

RADIUS_MEAN, RADIUS_STD = 0.1, 0.01
OFFSET = 0.25


def simulate(z: Tensor) -> Tensor:
    """Return one point of the crescent for each theta: (batch, 2) -> (batch, 2)."""
    angle = math.pi * (torch.rand(len(z)) - 0.5)
    radius = RADIUS_MEAN + RADIUS_STD * torch.randn(len(z))
    crescent = torch.stack([radius * angle.cos() + OFFSET, radius * angle.sin()], dim=-1)
    centre = torch.stack([-(z[:, 0] + z[:, 1]).abs(), z[:, 1] - z[:, 0]], dim=-1) / math.sqrt(2)
    return crescent + centre
