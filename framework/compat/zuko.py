"""zuko: the masks of its layers, and the base of its flows."""

import math

import zuko
from torch import Tensor, nn

CHECKED_ON = ("zuko==1.5.0", "zuko==1.6.0")


def use_float_masks(module: nn.Module) -> None:
    """Turn all masks into numbers: weights are multiplied by these in half the time that booleans take."""
    for part in module.modules():
        if isinstance(part, zuko.nn.MaskedLinear):
            part.mask = part.mask.float()


def log_prob(flow: zuko.flows.Flow, u: Tensor, s: Tensor) -> Tensor:
    """Return what `flow(s).log_prob(u)` does, sooner; the base of the flow must be a standard normal, as zuko's are."""
    z, log_abs_det = flow.transform(s).call_and_ladj(u)
    return log_abs_det - 0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))
