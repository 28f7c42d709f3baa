"""Checks of a graph before anything runs; every message names the key and what to type."""

import inspect
import re
from collections.abc import Iterable, Mapping

import numpy as np

from framework.config.target import suggest
from framework.errors import ConfigError
from framework.graph.labels import check_labels
from framework.graph.node import Node

BACKENDS = ("numpy", "torch")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_node(node: Node, nodes: Mapping[str, Node]) -> None:
    """Check one node in the context of the others; raises `ConfigError`."""
    key = f"graph.{node.name}"
    if not _NAME.fullmatch(node.name) or node.name == "index":
        raise ConfigError(f"{key}: expected letters, digits and '_', and not 'index'; rename the node '{node.name}'")
    if not node.is_drawn and node.observed is None:
        what = "inferred" if node.is_inferred else "neither drawn nor observed"
        raise ConfigError(
            f"priors.{node.name}: missing; node '{node.name}' is {what}, "
            f"give it a prior here, or a {key}.simulator" + ("" if node.is_inferred else f" or {key}.observed")
        )
    if node.prior is not None and node.is_simulated:
        raise ConfigError(f"priors.{node.name}: node '{node.name}' also has a simulator; remove one of the two")
    if node.backend not in BACKENDS:
        raise ConfigError(
            f"{key}.backend={node.backend}: expected {' or '.join(BACKENDS)}{suggest(node.backend, BACKENDS)}"
        )
    _check_parents(node, nodes, key)
    _check_evidence(node, nodes, key)
    _check_arrays(node, key)
    if node.prior is not None:
        check_labels(node, (node.prior.dim,))


def _check_parents(node: Node, nodes: Mapping[str, Node], key: str) -> None:
    _check_names(node.parents, nodes, f"{key}.parents")
    if not node.is_simulated:
        if node.parents and not node.presimulated:
            raise ConfigError(f"{key}.parents: only a simulator has parents; add {key}.simulator or remove the parents")
        return
    if not callable(node.simulator):
        raise ConfigError(f"{key}.simulator: {type(node.simulator).__name__} has no __call__; give a function instead")
    if node.batched and not node.parents:
        raise ConfigError(
            f"{key}.batched=true: without parents the simulator cannot know the batch size; set batched: false"
        )
    try:
        inspect.signature(node.simulator).bind(*node.parents, **dict.fromkeys(node.random_keywords))
    except TypeError as error:
        raise ConfigError(
            f"{key}.parents={list(node.parents)}: the simulator cannot be called with {len(node.parents)} "
            f"values ({error}); list one parent for each of its arguments, in their order"
        ) from None
    except ValueError:  # some builtins have no signature
        pass


def _check_evidence(node: Node, nodes: Mapping[str, Node], key: str) -> None:
    _check_names(node.evidence, nodes, f"{key}.evidence")
    for name in node.evidence:
        other = nodes[name]
        if not other.is_drawn and not other.is_inferred:
            raise ConfigError(
                f"{key}.evidence: '{name}' is only observed and cannot be simulated; "
                f"add graph.{name}.simulator or remove it from the evidence"
            )


def check_observed(nodes: Mapping[str, Node]) -> None:
    """Check that either all evidence is observed, or none: then the posterior is trained now and sampled later."""
    observed = [node.name for node in nodes.values() if node.is_drawn and node.observed is not None]
    for node in nodes.values():
        for name in node.evidence:
            if observed and nodes[name].observed is None and not nodes[name].is_inferred:
                raise ConfigError(
                    f"graph.{name}.observed: missing; '{name}' is evidence for '{node.name}': give its file of "
                    f"observations, or also remove graph.{observed[0]}.observed, to train now and sample later"
                )


def _check_arrays(node: Node, key: str) -> None:
    if node.is_inferred and node.observed is not None:
        raise ConfigError(f"{key}.observed: an inferred node is not observed; for its true values use {key}.truth")
    if node.truth is not None and not node.is_inferred:
        raise ConfigError(f"{key}.truth: node '{node.name}' is not inferred; use {key}.observed or add evidence")
    if not node.is_drawn and node.observed is not None and len(np.atleast_2d(node.observed)) != 1:
        raise ConfigError(
            f"{key}.observed: file has {len(node.observed)} rows, expected 1; without a prior or simulator "
            f"'{node.name}' is a covariate, the same for every simulation"
        )


def _check_names(names: tuple[str, ...], nodes: Mapping[str, Node], key: str) -> None:
    for name in names:
        if name not in nodes:
            raise ConfigError(f"{key}: no node '{name}' in the graph, only {', '.join(nodes)}{suggest(name, nodes)}")
        if names.count(name) > 1:
            raise ConfigError(f"{key}: '{name}' is listed twice; list it once")


def paired_arrays(nodes: Iterable[Node]) -> dict[str, np.ndarray]:
    """Return the arrays that have one row per observation, keyed by config key."""
    arrays = {}
    for node in nodes:
        if node.is_drawn and node.observed is not None:
            arrays[f"graph.{node.name}.observed"] = node.observed
        if node.truth is not None:
            arrays[f"graph.{node.name}.truth"] = node.truth
    return arrays


def check_num_observations(nodes: Iterable[Node]) -> None:
    """Check that all arrays have the same number of rows; arrays with one axis may still lack the leading one."""
    lengths = {key: len(array) for key, array in paired_arrays(nodes).items() if array.ndim > 1}
    first = next(iter(lengths), "")
    for key, length in lengths.items():
        if length != lengths[first]:
            raise ConfigError(
                f"{key}: file has {length} observations, {first} has {lengths[first]}; "
                "expected one row for each observation in both"
            )
