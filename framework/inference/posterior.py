"""Posterior samples and densities of a graph's inferred nodes, given observations."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from framework.errors import ConfigError
from framework.estimators import Estimator
from framework.rng import seed_sequence, seeded

Samples = dict[str, tuple[Tensor, Tensor]]


class Posterior:
    """The joint posterior of several nodes: the product of their estimators, in inference order.

    A node whose evidence includes another inferred node is sampled after that one, given its
    samples. `observations` are {node: (num_observations, *event_shape)}.
    """

    def __init__(self, estimators: Sequence[Estimator], observations: Mapping[str, np.ndarray], seed: int) -> None:
        self.estimators = {estimator.spec.node: estimator.eval() for estimator in estimators}
        self.observations = {name: torch.as_tensor(value) for name, value in observations.items()}
        self.seed = seed
        self.device = next(iter(next(iter(self.estimators.values())).parameters())).device

    @property
    def num_observations(self) -> int:
        """Number of observations."""
        return min((len(value) for value in self.observations.values()), default=0)

    def sample(self, num_samples: int, observation: int = 0, batch_size: int = 10_000) -> Samples:
        """Return {node: (theta (num_samples, dim), log-density of each given its evidence (num_samples,))}.

        The same arguments give the same samples; a larger `num_samples` only adds to them
        where `batch_size` divides the smaller one.
        """
        evidence = self.observation(observation)
        batches = []
        for number, count in enumerate(_chunks(num_samples, batch_size)):
            with seeded(seed_sequence(self.seed, "posterior", observation, number)):
                batches.append(self.sample_given(evidence, count))
        return {
            name: (torch.cat([b[name][0] for b in batches]), torch.cat([b[name][1] for b in batches]))
            for name in self.estimators
        }

    def sample_given(self, evidence: Mapping[str, Tensor], num_samples: int) -> Samples:
        """Draw from the posterior given a single row of evidence for each observed node, on the device."""
        values, samples = dict(evidence), {}
        for name, estimator in self.estimators.items():
            rows = {node: values[node] for node in estimator.spec.evidence_shapes}
            repeats = num_samples if all(len(row) == 1 for row in rows.values()) else 1
            theta, log_prob = estimator.sample(rows, repeats)
            values[name] = theta
            samples[name] = (theta.cpu(), log_prob.cpu())
        return samples

    def observation(self, index: int) -> dict[str, Tensor]:
        """Return {node: (1, *event_shape)} of one observation, on the device."""
        if not 0 <= index < self.num_observations:
            raise ConfigError(f"observation {index}: expected 0 to {self.num_observations - 1}")
        return {name: value[index : index + 1].to(self.device) for name, value in self.observations.items()}


class NodePosterior:
    """The posterior of one node, as `load_run(...).posterior(node)` gives it."""

    def __init__(self, joint: Posterior, node: str) -> None:
        self.joint, self.node = joint, node

    def sample(self, num_samples: int, observation: int = 0, x: Mapping[str, object] | None = None) -> Tensor:
        """Return theta of shape (num_samples, dim), given one of the run's observations or your own `x`.

        `x` maps observed nodes to one value each; samples given `x` come from torch's global generator.
        """
        if x is None:
            return self.joint.sample(num_samples, observation)[self.node][0]
        return self.joint.sample_given(self._evidence(x), num_samples)[self.node][0]

    def log_prob(self, theta: object, observation: int = 0, x: Mapping[str, object] | None = None) -> Tensor:
        """Return the log-density of theta (batch, dim) given the node's evidence: (batch,).

        Where the evidence includes other inferred nodes, their values must be in `x`.
        """
        estimator = self.joint.estimators[self.node]
        evidence = self.joint.observation(observation) if self.joint.observations else {}
        evidence |= self._evidence(x or {})
        if missing := estimator.spec.evidence_shapes.keys() - evidence.keys():
            raise ConfigError(f"{self.node}: x needs values for {', '.join(sorted(missing))}")
        rows = {name: evidence[name] for name in estimator.spec.evidence_shapes}
        values = torch.as_tensor(np.asarray(theta), dtype=torch.float32).to(self.joint.device)
        return estimator.log_prob(values.reshape(-1, estimator.prior.dim), rows).cpu()

    def _evidence(self, x: Mapping[str, object]) -> dict[str, Tensor]:
        shapes = {n: s for e in self.joint.estimators.values() for n, s in e.spec.evidence_shapes.items()}
        rows = {}
        for name, value in x.items():
            if name not in shapes:
                raise ConfigError(f"x['{name}']: no evidence of that name, only {', '.join(shapes)}")
            array = np.asarray(value, dtype=np.float32)
            rows[name] = torch.as_tensor(array).reshape(-1, *shapes[name]).to(self.joint.device)
        return rows


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
