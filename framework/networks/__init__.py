"""Embedding networks and the standardisation around them."""

from framework.networks.embeddings import MLP, Conv1d, PermutationInvariant
from framework.networks.evidence import EvidenceEmbedding, repeat_rows
from framework.networks.residual import ResidualStandardize
from framework.networks.spline import RationalQuadraticSpline
from framework.networks.standardize import Standardize

__all__ = [
    "MLP",
    "Conv1d",
    "EvidenceEmbedding",
    "PermutationInvariant",
    "RationalQuadraticSpline",
    "ResidualStandardize",
    "Standardize",
    "repeat_rows",
]
