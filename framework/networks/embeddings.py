"""Networks that compress a node's value into a summary vector."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU: (batch, *input_shape) to (batch, output_dim)."""

    def __init__(self, input_shape: Sequence[int], output_dim: int, hidden_dim: int = 128, num_layers: int = 2) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *[hidden_dim] * num_layers]
        layers: list[nn.Module] = [nn.Flatten()]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], output_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the summary of each row."""
        return self.layers(x)


class Conv1d(nn.Module):
    """Strided convolutions along a series, then a linear map: (batch, [channels,] length) to (batch, output_dim)."""

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        channels: Sequence[int] = (16, 32, 64),
        kernel_size: int = 5,
        stride: int = 2,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (1, 2):
            raise ValueError(f"expected a series of shape (length,) or (channels, length), got {tuple(input_shape)}")
        if kernel_size < 1 or stride < 1:
            raise ValueError(f"kernel_size={kernel_size}, stride={stride}: expected at least 1")
        self.in_channels = input_shape[0] if len(input_shape) == 2 else 1
        widths, length = [self.in_channels, *channels], input_shape[-1]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Conv1d(width_in, width_out, kernel_size, stride, padding=kernel_size // 2), nn.ReLU()]
            length = (length + 2 * (kernel_size // 2) - kernel_size) // stride + 1
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * length, output_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the summary of each row."""
        return self.layers(x.reshape(x.shape[0], self.in_channels, x.shape[-1]))


class PermutationInvariant(nn.Module):
    """Deep set (Zaheer et al. 2017, theorem 2): (batch, num_elements, *features) to (batch, output_dim).

    Every element goes through the same network; the mean over elements and the logarithm of
    their number go through a second one.
    """

    def __init__(self, input_shape: Sequence[int], output_dim: int, hidden_dim: int = 64, num_layers: int = 2) -> None:
        super().__init__()
        self.element = MLP(input_shape[1:], hidden_dim, hidden_dim, num_layers)
        self.summary = MLP((hidden_dim + 1,), output_dim, hidden_dim, num_layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the summary of each row, the same for any order of its elements."""
        batch, num_elements = x.shape[:2]
        mean = self.element(x.flatten(0, 1)).unflatten(0, (batch, num_elements)).mean(1)
        log_number = torch.full_like(mean[:, :1], math.log(num_elements))
        return self.summary(torch.cat([mean, log_number], dim=1))
