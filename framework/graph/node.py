"""One random variable of the graph."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from framework.priors import Prior


@dataclass(frozen=True, eq=False)
class Node:
    """A node drawn from its prior or its simulator, read from a file of simulations, or only observed.

    `observed` has shape (num_observations, *event), `truth` (num_observations, dim); both may
    lack the leading axis until `check_shapes` has added it.
    """

    name: str
    parents: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    prior: Prior | None = None
    simulator: Callable[..., Any] | None = None
    batched: bool = False
    backend: str = "numpy"
    observed: np.ndarray | None = None
    truth: np.ndarray | None = None
    presimulated: bool = False
    labels: tuple[str, ...] = ()

    @property
    def is_inferred(self) -> bool:
        """Whether an estimator learns q(node given its evidence)."""
        return bool(self.evidence)

    @property
    def is_simulated(self) -> bool:
        """Whether a simulator produces the node's values."""
        return self.simulator is not None

    @property
    def is_drawn(self) -> bool:
        """Whether each simulation has values of the node; a covariate is the same for all."""
        return self.prior is not None or self.is_simulated or self.presimulated

    @cached_property
    def random_keywords(self) -> frozenset[str]:
        """The subset of `rng` and `generator` that the simulator takes as keyword arguments."""
        if self.simulator is None:
            return frozenset()
        try:
            parameters = inspect.signature(self.simulator).parameters
        except (TypeError, ValueError):  # some builtins have no signature
            return frozenset()
        return frozenset({"rng", "generator"} & parameters.keys())
