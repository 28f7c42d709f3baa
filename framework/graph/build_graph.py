"""Construction of the graph from the plain mappings of the config."""

from collections.abc import Collection, Mapping
from typing import Any

from framework.config.target import build, suggest
from framework.errors import ConfigError
from framework.graph.graph import Graph
from framework.graph.labels import read_labels
from framework.graph.node import Node
from framework.graph.observations import load_array
from framework.priors import build_prior

_KEYS = ("parents", "evidence", "simulator", "batched", "backend", "observed", "truth", "labels")


def build_graph(
    graph_config: Mapping[str, Any], priors_config: Mapping[str, Any], presimulated: Collection[str] = ()
) -> Graph:
    """Build and check the graph from an experiment's `graph` and `priors` blocks.

    Both are plain mappings, so that a worker process can rebuild the graph from them.
    `presimulated` nodes come from a file and need no prior or simulator. Raises `ConfigError`
    naming the key.
    """
    for name in priors_config:
        if name not in graph_config:
            raise ConfigError(
                f"priors.{name}: no node '{name}' in the graph, only {', '.join(graph_config)}"
                f"{suggest(name, graph_config)}"
            )
    return Graph(
        [
            _build_node(name, block, priors_config.get(name), name in presimulated)
            for name, block in graph_config.items()
        ]
    )


def _build_node(
    name: str, block: Mapping[str, Any] | None, prior: Mapping[str, Any] | None, presimulated: bool
) -> Node:
    key = f"graph.{name}"
    block = {} if block is None else block
    if not isinstance(block, Mapping):
        raise ConfigError(f"{key}={block!r}: expected a mapping with some of {', '.join(_KEYS)}")
    for entry in block:
        if entry not in _KEYS:
            raise ConfigError(f"{key}.{entry}: unknown key, expected one of {', '.join(_KEYS)}{suggest(entry, _KEYS)}")
    simulator = block.get("simulator")
    observed = block.get("observed")
    truth = block.get("truth")
    return Node(
        name=name,
        parents=_names(block.get("parents"), f"{key}.parents"),
        evidence=_names(block.get("evidence"), f"{key}.evidence"),
        prior=None if prior is None else build_prior(prior, f"priors.{name}"),
        simulator=None if simulator is None else build(simulator, f"{key}.simulator"),
        batched=_flag(block.get("batched"), f"{key}.batched"),
        backend=block.get("backend") or "numpy",
        observed=None if observed is None else load_array(observed, f"{key}.observed"),
        truth=None if truth is None else load_array(truth, f"{key}.truth"),
        presimulated=presimulated,
        labels=read_labels(block.get("labels"), f"{key}.labels"),
    )


def _names(value: Any, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key}={value}: expected a list of node names, for example [{value}]")
    return tuple(value)


def _flag(value: Any, key: str) -> bool:
    if value not in (None, True, False):
        raise ConfigError(f"{key}={value!r}: expected true or false")
    return bool(value)
