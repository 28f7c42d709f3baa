"""The complete, checked directed acyclic graph of an experiment."""

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

from framework.errors import ConfigError
from framework.graph.checks import check_node, check_num_observations, check_observed, paired_arrays
from framework.graph.node import Node
from framework.graph.picture import picture


class Graph:
    """The nodes by name, and the orders in which they are simulated and inferred.

    Raises `ConfigError`, naming `graph.<node>.<key>`, for a graph that cannot be run.
    """

    nodes: dict[str, Node]
    simulation_order: list[Node]  # the nodes with a prior or a simulator, parents first
    inferred: list[Node]  # a node comes after the inferred nodes among its evidence

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        for node in nodes:
            check_node(node, self.nodes)
        order = _topological_order({node.name: node.parents for node in nodes}, _parent_cycle)
        self.simulation_order = [self.nodes[name] for name in order if self.nodes[name].is_drawn]
        self.inferred = [self.nodes[name] for name in inference_order(self.nodes)]
        if not self.inferred:
            raise ConfigError("graph: no node is inferred; give the node to be learned its evidence: [<node>, ...]")
        check_observed(self.nodes)
        check_num_observations(nodes)

    @property
    def num_observations(self) -> int:
        """Number of observations; reliable only after `check_shapes` has completed the arrays' shapes."""
        arrays = paired_arrays(self.nodes.values()).values()
        return next((len(array) for array in arrays if array.ndim > 1), 1)

    @property
    def observables(self) -> list[str]:
        """Names of the evidence nodes that are not inferred: all must be observed before sampling the posterior."""
        needed = {name for node in self.inferred for name in node.evidence}
        return [node.name for node in self.simulation_order if node.name in needed and not node.is_inferred]

    @property
    def is_observed(self) -> bool:
        """Whether there are observations to sample the posterior for; otherwise it is only trained."""
        return all(self.nodes[name].observed is not None for name in self.observables)

    @property
    def training_nodes(self) -> list[str]:
        """Names of the nodes whose simulations training needs: the inferred ones and their evidence."""
        needed = {name for node in self.inferred for name in (node.name, *node.evidence)}
        return [node.name for node in self.simulation_order if node.name in needed]

    @property
    def simulable(self) -> set[str]:
        """Names of the nodes that can be simulated given the inferred ones; presimulated ones may lack a simulator."""
        known: set[str] = {node.name for node in self.nodes.values() if not node.is_drawn or node.is_inferred}
        for node in self.simulation_order:
            if node.prior is not None or (node.is_simulated and known.issuperset(node.parents)):
                known.add(node.name)
        return known

    def describe(self) -> str:
        """Return a text drawing of the graph for a terminal, with one line per node."""
        covariates = [node for node in self.nodes.values() if not node.is_drawn]
        return picture(covariates + self.simulation_order)


class HasEvidence(Protocol):
    """A node, or its configuration."""

    @property
    def parents(self) -> Sequence[str]:
        """Names of the nodes from which it is simulated."""
        ...

    @property
    def evidence(self) -> Sequence[str]:
        """Names of the nodes from which it is inferred."""
        ...


def inference_order(nodes: Mapping[str, HasEvidence]) -> list[str]:
    """Return the names of the inferred nodes, each after the inferred nodes among its evidence."""
    order = _topological_order({name: node.parents for name, node in nodes.items()}, _parent_cycle)
    inferred = [name for name in order if nodes[name].evidence]
    needs = {name: [other for other in nodes[name].evidence if other in inferred] for name in inferred}
    return _topological_order(needs, _evidence_cycle)


def _topological_order(needs: Mapping[str, Sequence[str]], message: Callable[[list[str]], str]) -> list[str]:
    """Return the names in topological order, each after those it needs; raises `ConfigError` for a cycle."""
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise ConfigError(message(error.args[1])) from None


def _parent_cycle(cycle: list[str]) -> str:
    return (
        f"graph.{cycle[-1]}.parents: a cycle, {' -> '.join(cycle)}; no node can depend on itself, "
        f"remove '{cycle[-2]}' or another parent in the cycle"
    )


def _evidence_cycle(cycle: list[str]) -> str:
    return (
        f"graph.{cycle[-1]}.evidence: a cycle, {' -> '.join(cycle)}; one of these must be inferred without the others, "
        f"remove '{cycle[-2]}' or another one in the cycle"
    )
