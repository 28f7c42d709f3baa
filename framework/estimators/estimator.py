"""The estimator of one node: everything around its conditional density."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from framework.config.parse import node_settings
from framework.config.schema import Config
from framework.config.target import build_part
from framework.errors import ConfigError
from framework.estimators.compiled import compiled
from framework.estimators.density import Density
from framework.estimators.joined import JoinedWeights
from framework.networks import EvidenceEmbedding, ResidualStandardize, Standardize, repeat_rows
from framework.priors import Prior, build_prior
from framework.priors.improper import ImproperUniform


@dataclass
class EstimatorSpec:
    """Everything needed to build a node's estimator, as plain containers; stored in `init_parameters.pth`."""

    node: str
    network: dict[str, Any]
    embedding: dict[str, Any] | None
    dim: int
    evidence_shapes: dict[str, tuple[int, ...]]
    priors: dict[str, dict[str, Any]] = field(default_factory=dict)  # priors of the node and its evidence, if any

    def to_container(self) -> dict[str, Any]:
        """Return the fields as plain containers."""
        return asdict(self)


def spec_of(config: Config, node: str, shapes: Mapping[str, tuple[int, ...]]) -> EstimatorSpec:
    """Return the spec of one node's estimator, given the nodes' event shapes."""
    settings = node_settings(config, node)
    evidence = config.graph[node].evidence
    priors = config.priors
    return EstimatorSpec(
        node=node,
        network=settings.network,
        embedding=settings.embedding,
        dim=math.prod(shapes[node]),
        evidence_shapes={name: shapes[name] for name in evidence},
        priors={name: priors[name] for name in (node, *evidence) if name in priors},
    )


class Estimator(nn.Module):
    """q(theta | evidence) of one node.

    theta (batch, dim), the user's parameters, is mapped by the prior's bijection to the
    unconstrained u and standardised to z, by default after subtracting a linear regression on
    the evidence; the evidence is standardised and embedded into a summary s; `density` models z
    given s. All returned densities are densities of theta.
    """

    def __init__(self, spec: EstimatorSpec) -> None:
        super().__init__()
        self.spec = spec
        key = f"graph.{spec.node}"
        network = dict(spec.network)
        mode_x, mode_theta = network.pop("standardize_x", "independent"), network.pop("standardize_theta", "residual")
        self.prior = self._prior(spec.node, spec.dim)
        if self.prior.latent_dim == 0:
            raise ConfigError(f"priors.{spec.node}: all parameters are fixed; nothing is left to infer")
        self.evidence_priors = {name: self._prior(name, 0) for name in spec.evidence_shapes if name in spec.priors}
        shapes = dict(spec.evidence_shapes)
        shapes |= {name: (prior.latent_dim,) for name, prior in self.evidence_priors.items()}
        blocks = spec.embedding or {"_target_": "torch.nn.Flatten"}
        self.embedding = EvidenceEmbedding(shapes, blocks, f"{key}.embedding", mode_x)
        if mode_theta not in ("residual", "independent", "none"):
            raise ConfigError(f"network.standardize_theta={mode_theta}: expected one of residual, independent, none")
        self.standardize = Standardize((self.prior.latent_dim,), "none" if mode_theta == "none" else "independent")
        # Structured evidence is standardised as a whole; a regression weight per entry would not fit that.
        has_residual = mode_theta == "residual" and mode_x == "independent"
        num_features = self.embedding.num_features if has_residual else 0
        self.residual = ResidualStandardize(num_features, self.prior.latent_dim)
        self.density = build_part(
            nn.Module, network, "network", latent_dim=self.prior.latent_dim, context_dim=self.embedding.output_dim
        )
        self._training_nll: Callable[..., Tensor] = self.forward
        self._joined: JoinedWeights | None = None

    def prepare(self, theta: Tensor, evidence: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return u (batch, latent_dim) and the evidence in the form the networks expect; once per data set."""
        return self.prior.to_unconstrained(theta), self._prepare_evidence(evidence)

    def fit_standardisation(self, u: Tensor, evidence: Mapping[str, Tensor]) -> None:
        """Compute shift and scale of prepared theta and evidence."""
        self.standardize.fit(u)
        self.embedding.fit(evidence)
        if self.residual.num_features:
            self.residual.fit(self.standardize(u), self.embedding.features(evidence))

    def log_scale(self) -> Tensor:
        """Return log |dz / du|, a scalar."""
        return self.standardize.log_abs_det() + self.residual.log_abs_det()

    def join_weights(self, u: Tensor, evidence: Mapping[str, Tensor]) -> None:
        """Join all weights that get a gradient from the loss of this batch into one tensor, see `trainable`."""
        self.eval()(u, evidence).backward()  # in training mode, layers may update buffers or draw random numbers
        used = {name: p for name, p in self.named_parameters() if p.grad is not None and p.dtype == torch.float32}
        self.zero_grad()
        if used:
            self._joined = JoinedWeights(used)

    def trainable(self) -> list[Tensor]:
        """Return the tensors to optimise: the parameters, with joined ones replaced by the tensor they are views of."""
        if self._joined is None:
            return list(self.parameters())
        joined = set(self._joined.parameters.values())
        return [self._joined.tensor, *(p for p in self.parameters() if p not in joined)]

    def compile(self, u: Tensor, evidence: Mapping[str, Tensor]) -> None:
        """Compile the training pass for batches of this shape. Raises `ConfigError` if that fails."""
        self.train()
        self._training_nll = compiled(self._joined_nll if self._joined else self.forward, u, evidence)
        for weight in self.trainable():
            weight.grad = None

    def forward(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return the training loss, the mean negative log-density of z over a prepared batch, a scalar."""
        return -self.latent_log_prob(u, evidence).mean()

    def latent_log_prob(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return log q(z | s) for prepared data: u (batch, latent_dim) to (batch,)."""
        features = self._features(evidence)
        if features is not None and len(features) > 1:
            features = repeat_rows(features, len(u))
        z = self.residual(self.standardize(u), features)
        return self._model.log_prob(z, repeat_rows(self.embedding(evidence), len(u)))

    def loss(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return the same as `forward`, compiled if `compile` was called."""
        return self._training_nll(u, evidence)

    @torch.no_grad()
    def log_prob(self, theta: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        """Return log q(theta | evidence), -inf outside the support: (batch, dim) to (batch,).

        Evidence has one row per theta, a single row for all, or one row for each group of adjacent thetas of equal
        size, as returned by `sample`.
        """
        u, prepared = self.prepare(theta, evidence)
        log_prob = self.latent_log_prob(u, prepared) + self.log_scale() - self.prior.log_abs_det(u)
        return torch.where(self.prior.log_prob(theta).isneginf(), -torch.inf, log_prob)

    @torch.no_grad()
    def sample(self, evidence: Mapping[str, Tensor], num_samples: int = 1) -> tuple[Tensor, Tensor]:
        """Draw `num_samples` thetas for each row of evidence, from torch's global generator.

        Returns (rows * num_samples, dim), with the samples for one row adjacent, and log q(theta | evidence)
        of the same samples, (rows * num_samples,).
        """
        prepared = self._prepare_evidence(evidence)
        s = self.embedding(prepared).repeat_interleave(num_samples, dim=0)
        z, log_prob = self._model.sample(s)
        features = self._features(prepared)
        if features is not None:
            features = features.repeat_interleave(num_samples, dim=0)
        u = self.standardize.inverse(self.residual.inverse(z, features))
        log_prob = log_prob + self.log_scale() - self.prior.log_abs_det(u)
        return self.prior.from_unconstrained(u), log_prob

    def files(self) -> dict[str, tuple[str, ...]]:
        """Return, for each file of a checkpoint, the prefixes of the state entries in it."""
        return getattr(self.density, "FILES", {"model": ("",)})

    def _joined_nll(self, u: Tensor, evidence: Mapping[str, Tensor]) -> Tensor:
        assert self._joined is not None
        nll: Tensor = functional_call(self, self._joined.parts(), (u, evidence))
        return nll

    def _prepare_evidence(self, evidence: Mapping[str, Tensor]) -> dict[str, Tensor]:
        priors = self.evidence_priors
        return {name: priors[name].to_unconstrained(x) if name in priors else x for name, x in evidence.items()}

    @property
    def _model(self) -> Density:
        return cast(Density, self.density)

    def _features(self, evidence: Mapping[str, Tensor]) -> Tensor | None:
        return self.embedding.features(evidence) if self.residual.num_features else None

    def _prior(self, name: str, dim: int) -> Prior:
        block = self.spec.priors.get(name)
        return ImproperUniform(dim) if block is None else build_prior(block, f"priors.{name}")
