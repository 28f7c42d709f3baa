"""The posterior of one node, given the run's observations or other data."""

import torch
from torch import Tensor

from framework.errors import ConfigError
from framework.inference.new_data import evidence_rows, numbers
from framework.inference.posterior import Posterior, blocks, require_evidence, take


class NodePosterior:
    """The posterior of one node, as returned by `load_run(...).posterior(node)`.

    It is conditioned on one of the run's observations, by number (0 by default), or on your own data `x`:
    {evidence node: value}, or only the value if there is a single evidence node. A value is one observation, with the
    node's event shape, or several, (num_observations, *event_shape); a single one is used with each of the others.
    If both are given, `x` replaces its part of the observation. `batch_size` is the number of samples computed at
    once. Invalid arguments raise `ConfigError`, which is a `ValueError`.
    """

    def __init__(self, joint: Posterior, node: str) -> None:
        self.joint, self.node = joint, node
        self.estimator = joint.estimators[node]

    def sample(
        self, num_samples: int, observation: int | None = None, x: object = None, batch_size: int = 10_000
    ) -> Tensor:
        """Return theta (num_samples, dim), or (num_observations, num_samples, dim) if `x` has several observations.

        Inferred nodes among the evidence are sampled as well, unless `x` has them. The same arguments give the same
        samples, without using torch's global generator; samples for other data are independent of them.
        """
        _require_positive(num_samples=num_samples, batch_size=batch_size)
        if x is None:
            return self.joint.sample(num_samples, observation or 0, batch_size)[self.node][0]
        evidence, num_observations = self._evidence(observation, x)
        theta = self.joint.sample_given(evidence, num_samples, self.node, batch_size)
        return theta[0] if num_observations is None else theta

    def log_prob(
        self, theta: object, observation: int | None = None, x: object = None, batch_size: int = 10_000
    ) -> Tensor:
        """Return the log-density of theta (num_samples, dim) given the node's evidence, (num_samples,).

        If `x` has several observations, the result is (num_observations, num_samples): for theta (num_observations,
        num_samples, dim), as `sample` returns it, each given its own observation; for theta (num_samples, dim), each
        given every observation. Other inferred nodes among the evidence must be in `x`.
        """
        _require_positive(batch_size=batch_size)
        evidence, num_observations = self._evidence(observation, x)
        shapes = self.estimator.spec.evidence_shapes
        require_evidence(self.node, shapes.keys() - evidence.keys())
        values = self._parameters(theta, num_observations)
        result = torch.empty(values.shape[:2])
        for rows, columns in blocks(len(values), values.shape[1], batch_size):
            part = take({name: evidence[name] for name in shapes}, rows)
            log_prob = self.estimator.log_prob(values[rows, columns].flatten(0, 1).to(self.joint.device), part)
            result[rows, columns] = log_prob.cpu().reshape(result[rows, columns].shape)
        return result[0] if num_observations is None else result

    def _evidence(self, observation: int | None, x: object) -> tuple[dict[str, Tensor], int | None]:
        """Return rows of evidence on the device, and the number of observations in `x`, None for a single one."""
        if x is None:
            return self.joint.observation(observation or 0), None
        shapes = {n: shape for e in self.joint.estimators.values() for n, shape in e.spec.evidence_shapes.items()}
        rows, num_observations = evidence_rows(x, shapes, self.joint.depends_on(self.node))
        known = {} if observation is None else self.joint.observation(observation)
        return known | {name: value.to(self.joint.device) for name, value in rows.items()}, num_observations

    def _parameters(self, theta: object, num_observations: int | None) -> Tensor:
        """Return theta as (num_observations or 1, num_samples, dim)."""
        dim, array = self.estimator.prior.dim, numbers(theta, "theta")
        values = array[..., None] if dim == 1 and array.shape[-1:] != (1,) else array  # one number per sample
        values = values[None] if values.shape == (dim,) else values  # one sample
        if values.ndim == 2 and values.shape[1] == dim:
            return torch.from_numpy(values).expand(num_observations or 1, -1, -1)
        if num_observations and values.ndim == 3 and values.shape[::2] == (num_observations, dim):
            return torch.from_numpy(values)
        expected = f"(num_samples, {dim})" + (
            f" or ({num_observations}, num_samples, {dim})" if num_observations else ""
        )
        raise ConfigError(f"theta: has shape {array.shape}, expected {expected}")


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}={value}: expected at least 1")
