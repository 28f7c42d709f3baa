"""What `framework/compat/zuko.py` expects of zuko's layers and flows."""

import pytest
import torch
import zuko

from framework.compat.zuko import log_prob, use_float_masks
from framework.estimators.flow import FAMILIES


def test_masks_of_numbers_are_those_of_booleans():
    """If this fails, training takes up to twice as long or goes wrong: see what `zuko.nn.MaskedLinear` does now."""
    torch.manual_seed(0)
    flow = zuko.flows.MAF(3, 2, transforms=1, hidden_features=[8])
    layers = [part for part in flow.modules() if isinstance(part, zuko.nn.MaskedLinear)]
    assert layers and all(layer.mask.dtype == torch.bool for layer in layers), "zuko's masks are no booleans any more"
    u, s = torch.randn(5, 3), torch.randn(5, 2)
    before = flow(s).log_prob(u)
    use_float_masks(flow)
    assert all(layer.mask.dtype == torch.float32 for layer in layers)
    assert torch.equal(flow(s).log_prob(u), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_density_is_that_of_the_flow(family):
    """If this fails, the family has another base than the standard normal: call `flow(s).log_prob(u)` for it."""
    torch.manual_seed(0)
    flow = getattr(zuko.flows, family)(2, 3)
    u, s = torch.randn(4, 2), torch.randn(4, 3)
    torch.manual_seed(1)  # CNF estimates a trace
    expected = flow(s).log_prob(u)
    torch.manual_seed(1)
    torch.testing.assert_close(log_prob(flow, u, s), expected)
