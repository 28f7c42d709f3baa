"""Joining many weights into one tensor, because in small networks the overhead per tensor dominates a step."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class JoinedWeights:
    """The given parameters concatenated in `tensor` (num_weights,), of which they become views.

    Changing one changes the other. Gradients accumulate in `tensor`: directly if a module runs with `parts()` in
    place of its own parameters, otherwise through a hook of each parameter. All parameters must have the same dtype
    and device.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        self._sizes = [parameter.numel() for parameter in self.parameters.values()]
        self.tensor = nn.Parameter(torch.cat([p.detach().flatten() for p in self.parameters.values()]))
        for name, part in self.parts().items():
            self.parameters[name].data = part.detach()
            self.parameters[name].register_post_accumulate_grad_hook(self._move_gradient)

    def parts(self) -> dict[str, Tensor]:
        """Return the parameters by name, as functions of `tensor`."""
        pieces = self.tensor.split(self._sizes)
        return {n: piece.view(p.shape) for (n, p), piece in zip(self.parameters.items(), pieces, strict=True)}

    def _move_gradient(self, parameter: Tensor) -> None:
        """Add the parameter's gradient to its part of the gradient of `tensor`."""
        if self.tensor.grad is None:
            self.tensor.grad = torch.zeros_like(self.tensor)
        start = parameter.storage_offset()
        assert parameter.grad is not None
        self.tensor.grad[start : start + parameter.numel()] += parameter.grad.flatten()
        parameter.grad = None
