"""The information gain about theta from the evidence: estimated posterior density relative to the prior density."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.estimators import Estimator
from framework.priors.improper import ImproperUniform


@dataclass(frozen=True)
class InformationGain:
    """Mean of log q(theta | evidence) - log p(theta) over simulations not trained on, and its standard error, in nats.

    Its expectation is the mutual information of theta and the evidence, minus the divergence of the estimator from
    the exact posterior. `None` if unknown; `note` gives the reason, or lists excluded simulations.
    """

    nats: float | None = None
    standard_error: float | None = None
    note: str | None = None


def information_gain(
    estimator: Estimator,
    theta: Tensor,
    evidence: Mapping[str, Tensor],
    batch_size: int = 10_000,
    check: Callable[[], None] = lambda: None,
) -> InformationGain:
    """Estimate the gain from theta (rows, dim) and the evidence of each row; theta outside the prior is excluded."""
    if isinstance(estimator.prior, ImproperUniform):
        return InformationGain(note="there is no prior whose density it could be compared with")
    try:
        prior = estimator.prior.log_prob(theta.cpu().double())
    except NotImplementedError:
        return InformationGain(note="the prior does not define its density (log_prob)")
    parts = []
    for start in range(0, len(theta), batch_size):
        check()
        rows = slice(start, start + batch_size)
        posterior = estimator.log_prob(theta[rows], {name: value[rows] for name, value in evidence.items()})
        parts.append(posterior.cpu().double())
    return _mean((torch.cat(parts) - prior)[prior.isfinite()], len(theta))


def _mean(ratio: Tensor, num_simulations: int) -> InformationGain:
    """Average the log ratios of the simulations inside the prior."""
    of_all = f"of {num_simulations} simulations not trained on"
    if not len(ratio):
        return InformationGain(note=f"none {of_all} lies inside the prior")
    if num_bad := int((~ratio.isfinite()).sum()):
        return InformationGain(note=f"the estimated density is not finite at {num_bad} {of_all}")
    num_outside = num_simulations - len(ratio)
    note = f"without the {num_outside} {of_all} that lie outside the prior" if num_outside else None
    standard_error = ratio.std().item() / math.sqrt(len(ratio)) if len(ratio) > 1 else None
    return InformationGain(ratio.mean().item(), standard_error, note)
