"""The joint posterior of a graph's inferred nodes, given observations."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from framework.errors import ConfigError
from framework.estimators import Estimator
from framework.rng import seed_sequence, seeded

Samples = dict[str, tuple[Tensor, Tensor]]


class Posterior:
    """The joint posterior of several nodes: the product of their estimators, in inference order.

    A node whose evidence includes another inferred node is sampled after that node, given its
    samples. `observations` are {node: (num_observations, *event_shape)}.
    """

    def __init__(self, estimators: Sequence[Estimator], observations: Mapping[str, np.ndarray], seed: int) -> None:
        self.estimators = {estimator.spec.node: estimator.eval() for estimator in estimators}
        self.observations = {name: torch.as_tensor(value) for name, value in observations.items()}
        if len({len(value) for value in observations.values()}) > 1:
            lengths = ", ".join(f"{name} has {len(value)}" for name, value in observations.items())
            raise ConfigError(f"numbers of observations differ: {lengths}; expected the same number in all of them")
        self.seed = seed
        self.device = next(iter(next(iter(self.estimators.values())).parameters())).device

    @property
    def num_observations(self) -> int:
        """Number of observations."""
        return next((len(value) for value in self.observations.values()), 0)

    def sample(self, num_samples: int, observation: int = 0, batch_size: int = 10_000) -> Samples:
        """Return {node: (theta (num_samples, dim), log-density of each given its evidence (num_samples,))}.

        The same arguments give the same samples; a larger `num_samples` only adds samples if
        `batch_size` divides the smaller one.
        """
        evidence = self.observation(observation)
        batches = []
        for number, start in enumerate(range(0, num_samples, batch_size)):
            with seeded(seed_sequence(self.seed, "posterior", observation, number)):
                batches.append(self._draw(evidence, min(batch_size, num_samples - start), self.estimators))
        return {
            name: (torch.cat([b[name][0] for b in batches]), torch.cat([b[name][1] for b in batches]))
            for name in self.estimators
        }

    def sample_given(self, evidence: Mapping[str, Tensor], num_samples: int, node: str, batch_size: int) -> Tensor:
        """Return theta of `node`, (rows, num_samples, dim), given evidence with several rows or a single one.

        Inferred nodes that `evidence` lacks are sampled first. The same arguments give the same samples; if anything in
        the evidence differs they are independent, so that averages over observations also average over the noise.
        """
        unknown = self.depends_on(node, evidence)
        require_evidence(node, unknown - self.estimators.keys())
        nodes = [name for name in self.estimators if name == node or name in unknown]
        num_rows, digest = max(len(value) for value in evidence.values()), _digest(evidence)
        theta = torch.empty(num_rows, num_samples, self.estimators[node].prior.dim)
        for number, (rows, columns) in enumerate(blocks(num_rows, num_samples, batch_size)):
            with seeded(seed_sequence(self.seed, "posterior", digest, number)):
                drawn = self._draw(take(evidence, rows), columns.stop - columns.start, nodes)[node][0]
            theta[rows, columns] = drawn.reshape(theta[rows, columns].shape)
        return theta

    def depends_on(self, node: str, known: Collection[str] = ()) -> set[str]:
        """Return the evidence nodes of `node`, and of inferred nodes among them, except the `known` ones."""
        names = {node}
        for name in reversed(self.estimators):
            if name in names:
                names |= self.estimators[name].spec.evidence_shapes.keys() - set(known)
        return names - {node}

    def observation(self, index: int) -> dict[str, Tensor]:
        """Return one observation as {node: (1, *event_shape)} on the device."""
        if not self.observations:
            raise ConfigError("the run has no observation; give your own, as in posterior.sample(1000, x={'x': ...})")
        if not 0 <= index < self.num_observations:
            raise ConfigError(f"observation {index}: expected 0 to {self.num_observations - 1}")
        return {name: value[index : index + 1].to(self.device) for name, value in self.observations.items()}

    def _draw(self, evidence: Mapping[str, Tensor], num_samples: int, nodes: Iterable[str]) -> Samples:
        """Draw `num_samples` for each row of evidence; samples for the same row are adjacent."""
        num_draws = num_samples * max(len(value) for value in evidence.values())
        values, samples = dict(evidence), {}
        for name in nodes:
            estimator = self.estimators[name]
            rows = {node: values[node] for node in estimator.spec.evidence_shapes}
            theta, log_prob = estimator.sample(rows, num_draws // max(len(row) for row in rows.values()))
            values[name] = theta
            samples[name] = (theta.cpu(), log_prob.cpu())
        return samples


def require_evidence(node: str, missing: Collection[str]) -> None:
    """Raise `ConfigError` if evidence for `node` is missing."""
    if missing:
        raise ConfigError(
            f"x: no value for {', '.join(sorted(missing))}, evidence for {node}; add it, or pass observation=<number> "
            "to use one of the run's own observations for what x lacks"
        )


def take(evidence: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    """Return some rows of the evidence; a single row is kept, because it belongs to all."""
    return {name: value if len(value) == 1 else value[rows] for name, value in evidence.items()}


def blocks(num_rows: int, num_samples: int, batch_size: int) -> Iterator[tuple[slice, slice]]:
    """Divide (num_rows, num_samples) into blocks, as slices of rows and columns, of about `batch_size` samples."""
    rows_at_once = max(batch_size // max(num_samples, 1), 1)
    for row in range(0, num_rows, rows_at_once):
        rows = slice(row, min(row + rows_at_once, num_rows))
        for column in range(0, num_samples, batch_size):
            yield rows, slice(column, min(column + batch_size, num_samples))


def _digest(evidence: Mapping[str, Tensor]) -> int:
    content = hashlib.sha256()
    for name in sorted(evidence):
        content.update(name.encode() + evidence[name].cpu().contiguous().numpy().tobytes())
    return int.from_bytes(content.digest()[:8])
