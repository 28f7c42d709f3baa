"""Sampling after training: posterior and predictive samples of all observations, and calibration samples."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from framework.errors import SimulationError
from framework.estimators import Estimator
from framework.graph import Graph
from framework.inference.posterior import Posterior
from framework.rng import seed_sequence, seeded
from framework.simulation.conditional import simulate_conditional

Arrays = dict[str, dict[str, np.ndarray]]
Check = Callable[[], None]  # called between pieces of work; may raise to end it


def draw_posterior(
    posterior: Posterior, num_samples: Mapping[str, int], batch_size: int, on_progress: Callable[[int], None]
) -> Arrays:
    """Return {node: {"samples": (num_observations, num_samples, dim), "log_prob": (num_observations, num_samples)}}.

    Nodes are sampled jointly: row i of one node belongs to row i of another.
    """
    drawn: dict[str, list[tuple[Tensor, Tensor]]] = {node: [] for node in posterior.estimators}
    for observation in range(posterior.num_observations):
        samples = posterior.sample(max(num_samples.values()), observation, batch_size)
        for node, (theta, log_prob) in samples.items():
            drawn[node].append((theta[: num_samples[node]], log_prob[: num_samples[node]]))
        on_progress(observation + 1)
    return {
        node: {
            "samples": torch.stack([theta for theta, _ in pairs]).numpy(),
            "log_prob": torch.stack([log_prob for _, log_prob in pairs]).numpy(),
        }
        for node, pairs in drawn.items()
    }


def draw_predictive(
    graph: Graph,
    observed_nodes: Collection[str],
    samples: Arrays,
    num_predictive: int,
    seed: int,
    check: Check = lambda: None,
) -> dict[str, np.ndarray]:
    """Simulate the observed nodes from the first posterior samples of each observation.

    Returns {observed node: (num_observations, num_predictive, *event_shape)}; failed simulations are NaN.
    """
    observed = [n.name for n in graph.simulation_order if n.name in observed_nodes and n.name in graph.simulable]
    if not observed:  # all are presimulated
        return {}
    num_observations, num_samples = next(iter(samples.values()))["samples"].shape[:2]
    num_predictive = min(num_predictive, num_samples)
    predictive: dict[str, list[np.ndarray]] = {name: [] for name in observed}
    for observation in range(num_observations):
        given = {node: arrays["samples"][observation][:num_predictive] for node, arrays in samples.items()}
        block = simulate_conditional(graph, given, _predictive_seed(seed, observation), check)
        if not len(block.index):
            raise SimulationError(f"posterior predictive: every simulation failed: {block.failures[-1].message}")
        for name in observed:
            values = block.values[name]
            rows = np.full((num_predictive, *values.shape[1:]), np.nan, np.float32)
            rows[block.index] = values
            predictive[name].append(rows)
    return {name: np.stack(rows) for name, rows in predictive.items()}


def _predictive_seed(seed: int, observation: int) -> int:
    return int(seed_sequence(seed, "predictive", observation).generate_state(1)[0])


def draw_calibration(
    estimator: Estimator,
    evidence: Mapping[str, Tensor],
    num_samples: int,
    batch_size: int,
    seed: int,
    check: Check = lambda: None,
) -> np.ndarray:
    """Return posterior samples for each row of simulated evidence, (rows, num_samples, dim)."""
    node, num_rows = estimator.spec.node, len(next(iter(evidence.values())))
    rows_at_once = max(batch_size // num_samples, 1)
    parts = []
    for start in range(0, num_rows, rows_at_once):
        check()
        rows = {name: value[start : start + rows_at_once] for name, value in evidence.items()}
        with seeded(seed_sequence(seed, node, "calibration", start)):
            theta, _ = estimator.sample(rows, num_samples)
        parts.append(theta.cpu().reshape(-1, num_samples, theta.shape[1]))
    return torch.cat(parts).numpy()
