"""Prior distributions, each with a map to an unconstrained space."""

from framework.priors.base import Prior
from framework.priors.build_prior import build_prior
from framework.priors.product import Fixed, Product
from framework.priors.truncated import LogUniform, PowerLaw, TruncatedNormal
from framework.priors.univariate import Cosine, LogNormal, Normal, Sine, Triangular, Uniform
from framework.priors.wrapper import Distribution, as_prior

__all__ = [
    "Cosine",
    "Distribution",
    "Fixed",
    "LogNormal",
    "LogUniform",
    "Normal",
    "PowerLaw",
    "Prior",
    "Product",
    "Sine",
    "Triangular",
    "TruncatedNormal",
    "Uniform",
    "as_prior",
    "build_prior",
]
