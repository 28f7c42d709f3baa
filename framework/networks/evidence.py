"""The summary s of all of a node's evidence: standardised, embedded and concatenated."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from framework.config.target import build_part, reason_of
from framework.errors import ConfigError
from framework.networks.standardize import Standardize


class EvidenceEmbedding(nn.Module):
    """Map {evidence node: (batch, *event_shape)} to the summary s of shape (batch, output_dim).

    `blocks` is one `_target_` mapping, from which each evidence node gets its own network, or one
    such mapping per evidence node. Any `nn.Module` is accepted; `input_shape` is passed if it takes one.
    """

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], blocks: Mapping[str, Any], key: str, mode: str = "independent"
    ) -> None:
        super().__init__()
        per_node = dict.fromkeys(shapes, blocks) if "_target_" in blocks else dict(blocks)
        if unknown := per_node.keys() ^ shapes.keys():
            odd = ", ".join(sorted(unknown))
            raise ConfigError(f"{key}: expected one _target_, or one for each of {', '.join(shapes)}; wrong: {odd}")
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.standardize = nn.ModuleDict({name: Standardize(shape, mode) for name, shape in self.shapes.items()})
        self.networks = nn.ModuleDict(
            {name: build_part(nn.Module, per_node[name], key, input_shape=shape) for name, shape in self.shapes.items()}
        )
        self.output_dim = self._measure(key)

    def fit(self, evidence: Mapping[str, Tensor]) -> None:
        """Compute the standardisation from the training data."""
        for name, layer in self.standardize.items():
            cast(Standardize, layer).fit(evidence[name])

    def forward(self, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return s; evidence with fewer rows than the rest is repeated, see `repeat_rows`."""
        parts = [self.networks[name](self.standardize[name](evidence[name])).flatten(1) for name in self.shapes]
        return _concatenate(parts)

    def features(self, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return the standardised evidence without embedding, flattened to (batch, num_features)."""
        return _concatenate([self.standardize[name](evidence[name]).flatten(1) for name in self.shapes])

    @property
    def num_features(self) -> int:
        """Total number of entries of all evidence."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def _measure(self, key: str) -> int:
        """Run two rows through the networks to get the output size and to materialise lazy layers."""
        try:
            with torch.no_grad():
                summary = self({name: torch.zeros(2, *shape) for name, shape in self.shapes.items()})
        except Exception as error:  # a user-defined network may raise any exception
            raise ConfigError(
                f"{key}: the network does not accept evidence of shape {self.shapes}: {reason_of(error)}"
            ) from error
        if summary.shape[0] != 2:
            raise ConfigError(
                f"{key}: expected (batch, ...) in and (batch, ...) out, got {tuple(summary.shape)} for 2 rows"
            )
        return summary.shape[1]


def repeat_rows(values: Tensor, num_rows: int) -> Tensor:
    """Repeat each row of (rows, width) equally often, copies adjacent, to get (num_rows, width)."""
    if len(values) in (1, num_rows):
        return values.expand(num_rows, -1)
    return values.repeat_interleave(num_rows // len(values), dim=0)


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    batch = max(len(part) for part in parts)
    return torch.cat([repeat_rows(part, batch) for part in parts], dim=1)
