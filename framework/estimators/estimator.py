"""From evidence to a density over the user's parameters: what every node's estimator shares."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from framework.config.target import build
from framework.networks import EvidenceEmbedding, Standardize
from framework.priors import Prior, build_prior
from framework.priors.improper import ImproperUniform


@dataclass
class EstimatorSpec:
    """All that is needed to build a node's estimator, as plain containers (`init_parameters.pth` holds it)."""

    node: str
    network: dict[str, Any]
    embedding: dict[str, Any] | None
    dim: int
    evidence_shapes: dict[str, tuple[int, ...]]
    priors: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # of the node and of its evidence, where they have one

    def to_container(self) -> dict[str, Any]:
        """Return the fields as plain containers."""
        return asdict(self)


class Estimator(nn.Module):
    """q(theta | evidence) of one node.

    theta (batch, dim), in the user's parameters, is mapped by the prior's bijection to the
    unconstrained u and standardised; the evidence is standardised and embedded into a summary
    s; `density` models the standardised u given s. Densities returned are those of theta.
    """

    def __init__(self, spec: EstimatorSpec) -> None:
        super().__init__()
        self.spec = spec
        key = f"graph.{spec.node}"
        network = dict(spec.network)
        modes = {name: network.pop(name, "independent") for name in ("standardize_theta", "standardize_x")}
        self.prior = self._prior(spec.node, spec.dim)
        self.evidence_priors = {name: self._prior(name, 0) for name in spec.evidence_shapes if name in spec.priors}
        shapes = dict(spec.evidence_shapes)
        shapes |= {name: (prior.latent_dim,) for name, prior in self.evidence_priors.items()}
        blocks = spec.embedding or {"_target_": "torch.nn.Flatten"}
        self.embedding = EvidenceEmbedding(shapes, blocks, f"{key}.embedding", modes["standardize_x"])
        self.standardize = Standardize((self.prior.latent_dim,), modes["standardize_theta"])
        self.density: nn.Module = build(
            network, "network", latent_dim=self.prior.latent_dim, context_dim=self.embedding.output_dim
        )
        self._has_auxiliary_loss = hasattr(self.density, "auxiliary_loss")
        self._training_log_prob: Callable[..., Tensor] = self.latent_log_prob

    def prepare(self, theta: Tensor, evidence: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return u (batch, latent_dim) and the evidence as the networks take it; done once for a data set."""
        return self.prior.to_unconstrained(theta), self._prepare_evidence(evidence)

    def fit_standardisation(self, u: Tensor, evidence: Mapping[str, Tensor]) -> None:
        """Learn shift and scale of prepared theta and evidence."""
        self.standardize.fit(u)
        self.embedding.fit(evidence)

    def compile(self) -> None:  # type: ignore[override]
        """Compile the density's training pass; the weights stay where they are."""
        self._training_log_prob = torch.compile(self.latent_log_prob, dynamic=False)

    def latent_log_prob(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return log q of standardised u, for prepared data: (batch, latent_dim) to (batch,)."""
        return self.density.log_prob(self.standardize(u), self.embedding(evidence))  # type: ignore[operator]

    def loss(self, u: Tensor, evidence: Mapping[str, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Return this step's objective and the mean negative log-density of standardised u, both scalars."""
        nll = -self._training_log_prob(u, evidence).mean()
        extra = self.density.auxiliary_loss(self.standardize(u), step) if self._has_auxiliary_loss else None  # type: ignore[operator]
        return (nll if extra is None else nll + extra), nll.detach()

    @torch.no_grad()
    def log_prob(self, theta: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return log q(theta | evidence), -inf outside the support: (batch, dim) to (batch,).

        Evidence has one row for each theta, or a single one for all.
        """
        u, prepared = self.prepare(theta, evidence)
        s = self.embedding(prepared).expand(len(theta), -1)
        log_prob = self.density.log_prob(self.standardize(u), s)  # type: ignore[operator]
        log_prob = log_prob + self.standardize.log_abs_det() - self.prior.log_abs_det(u)
        return torch.where(self.prior.log_prob(theta).isneginf(), -torch.inf, log_prob)

    @torch.no_grad()
    def sample(self, evidence: Mapping[str, Tensor], num_samples: int = 1) -> tuple[Tensor, Tensor]:
        """Draw `num_samples` thetas for each row of evidence, from torch's global generator.

        Returns (rows * num_samples, dim), those of one row together, and log q(theta | evidence)
        of the same samples, (rows * num_samples,).
        """
        s = self.embedding(self._prepare_evidence(evidence)).repeat_interleave(num_samples, dim=0)
        z, log_prob = self.density.sample(s)  # type: ignore[operator]
        u = self.standardize.inverse(z)
        log_prob = log_prob + self.standardize.log_abs_det() - self.prior.log_abs_det(u)
        return self.prior.from_unconstrained(u), log_prob

    def files(self) -> dict[str, tuple[str, ...]]:
        """Return, for each file of a checkpoint, the prefixes of the state that it holds."""
        return getattr(self.density, "FILES", {"model": ("",)})

    def _prepare_evidence(self, evidence: Mapping[str, Tensor]) -> dict[str, Tensor]:
        priors = self.evidence_priors
        return {name: priors[name].to_unconstrained(x) if name in priors else x for name, x in evidence.items()}

    def _prior(self, name: str, dim: int) -> Prior:
        block = self.spec.priors.get(name)
        return ImproperUniform(dim) if block is None else build_prior(block, f"priors.{name}")
