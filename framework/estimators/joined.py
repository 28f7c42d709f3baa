"""Many weights as one tensor: in a small network's training step, each tensor to handle costs more than its numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class JoinedWeights:
    """The given parameters side by side in `tensor` (num_weights,), of which they are views from then on.

    Whoever changes the one changes the other. The gradient is that of `tensor`: directly where a module runs with
    `parts()` in place of its own parameters, and handed on where it runs with these. All must be of one dtype and
    on one device.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        self._sizes = [parameter.numel() for parameter in self.parameters.values()]
        self.tensor = nn.Parameter(torch.cat([p.detach().flatten() for p in self.parameters.values()]))
        for name, part in self.parts().items():
            self.parameters[name].data = part.detach()
            self.parameters[name].register_post_accumulate_grad_hook(self._hand_on)

    def parts(self) -> dict[str, Tensor]:
        """Return the parameters by name, as functions of `tensor`."""
        pieces = self.tensor.split(self._sizes)
        return {n: piece.view(p.shape) for (n, p), piece in zip(self.parameters.items(), pieces, strict=True)}

    def _hand_on(self, parameter: Tensor) -> None:
        """Move the parameter's gradient to its place in that of `tensor`."""
        if self.tensor.grad is None:
            self.tensor.grad = torch.zeros_like(self.tensor)
        start = parameter.storage_offset()
        assert parameter.grad is not None
        self.tensor.grad[start : start + parameter.numel()] += parameter.grad.flatten()
        parameter.grad = None
