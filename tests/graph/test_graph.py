"""The graph of nodes: their order, what each is trained on, and mistakes in its configuration."""

import numpy as np
import pytest

from framework.errors import ConfigError
from framework.graph import Graph, Node, build_graph
from framework.priors import Uniform
from tests.support import toy_simulators as toy

OBSERVED = np.zeros((3, 2), np.float32)


def prior(dim=2):
    return Uniform(low=[-1] * dim, high=[1] * dim)


def inferred(name, *evidence, **options):
    return Node(name, evidence=evidence, prior=prior(), **options)


def simulated(name, *parents, observed=OBSERVED, **options):
    return Node(name, parents, simulator=options.pop("simulator", toy.first), observed=observed, **options)


def names(nodes):
    return [node.name for node in nodes]


def error_of(*nodes):
    with pytest.raises(ConfigError) as caught:
        Graph(nodes)
    return str(caught.value)


# --- orders ---


def test_parents_are_simulated_first_whatever_the_order_of_the_config():
    graph = Graph([simulated("x", "y"), simulated("y", "z"), inferred("z", "x")])
    assert names(graph.simulation_order) == ["z", "y", "x"]
    assert graph.num_observations == 3


def test_one_node_may_feed_two():
    graph = Graph([inferred("z", "x", "y"), simulated("x", "z"), simulated("y", "z")])
    assert names(graph.simulation_order) == ["z", "x", "y"]


def test_a_node_is_inferred_after_the_inferred_nodes_among_its_evidence():
    graph = Graph([inferred("a", "x", "b"), inferred("b", "x", "c"), inferred("c", "x"), simulated("x", "a", "b", "c")])
    assert names(graph.inferred) == ["c", "b", "a"]


def test_a_simulated_node_may_be_inferred_and_its_parents_may_be_nuisance():
    nuisance = Node("noise", prior=prior())
    latent = Node("latent", ("z", "noise"), ("x",), simulator=toy.add)
    graph = Graph([inferred("z", "x"), nuisance, latent, simulated("x", "latent")])
    assert names(graph.inferred) == ["z", "latent"]
    assert graph.training_nodes == ["z", "latent", "x"]


def test_covariates_are_not_simulated():
    graph = Graph([Node("time", observed=OBSERVED[:1]), inferred("z", "x"), simulated("x", "z", "time")])
    assert names(graph.simulation_order) == ["z", "x"]


def test_a_graph_without_observations_can_be_trained():
    graph = Graph(
        [
            inferred("z", "x", "y", truth=OBSERVED),
            simulated("x", "z", observed=None),
            simulated("y", "x", observed=None),
        ]
    )
    assert graph.observables == ["x", "y"] and not graph.is_observed
    assert Graph([inferred("z", "x"), simulated("x", "z")]).is_observed


def test_picture_leads_from_parents_to_children():
    graph = Graph(
        [
            inferred("mu", "x", "y"),
            inferred("sigma", "x", "mu"),
            simulated("mid", "mu", observed=None),
            simulated("x", "mid", "sigma"),
            simulated("y", "mid"),
        ]
    )
    assert graph.describe().splitlines() == [
        "mu ────┐                    prior Uniform, dim 2; inferred from x, y",
        "sigma ─│───────┐            prior Uniform, dim 2; inferred from x, mu",
        "       └▶ mid ─┼─────┐      simulator first",
        "               └▶ x  │      simulator first; observed",
        "                     └▶ y   simulator first; observed",
    ]


# --- mistakes ---


def test_unknown_parent_gets_a_suggestion():
    message = error_of(inferred("theta", "x"), simulated("x", "tehta"))
    assert message == "graph.x.parents: no node 'tehta' in the graph, only theta, x; did you mean 'theta'?"


def test_unknown_evidence_gets_a_suggestion():
    message = error_of(inferred("z", "spectrun"), simulated("spectrum", "z"))
    assert message.startswith("graph.z.evidence: no node 'spectrun'") and "'spectrum'?" in message


def test_cycle_of_parents_is_printed():
    message = error_of(inferred("z", "x"), simulated("x", "z", "y"), simulated("y", "x"))
    assert message.startswith("graph.") and ".parents: a cycle" in message
    assert "x -> y -> x" in message or "y -> x -> y" in message


def test_cycle_of_evidence_is_printed():
    message = error_of(inferred("a", "x", "b"), inferred("b", "x", "a"), simulated("x", "a", "b"))
    assert ".evidence: a cycle" in message and ("a -> b -> a" in message or "b -> a -> b" in message)


@pytest.mark.parametrize(
    ("nodes", "start"),
    [
        ([inferred("z", "x"), simulated("x", "z", "z")], "graph.x.parents: 'z' is listed twice"),
        (
            [inferred("z", "x", "y"), simulated("x", "z"), simulated("y", "z", observed=None)],
            "graph.y.observed: missing",
        ),
        ([inferred("z", "x"), simulated("x", "z", observed=None), simulated("y", "x")], "graph.x.observed: missing"),
        (
            [inferred("z", "x"), simulated("x", "z", "time"), Node("time", observed=OBSERVED)],
            "graph.time.observed: file has 3 rows, expected 1",
        ),
        ([inferred("z", "x"), Node("x", observed=OBSERVED[:1])], "graph.z.evidence: 'x' is only observed"),
        ([Node("z", evidence=("x",)), simulated("x", "z")], "priors.z: missing; node 'z' is inferred"),
        ([Node("z"), simulated("x", "z")], "priors.z: missing; node 'z' is neither drawn nor observed"),
        ([Node("z", prior=prior()), simulated("x", "z")], "graph: no node is inferred"),
        ([inferred("z", "x", observed=OBSERVED), simulated("x", "z")], "graph.z.observed: an inferred node"),
        ([inferred("z", "x"), simulated("x", "z", truth=OBSERVED)], "graph.x.truth: node 'x' is not inferred"),
        ([inferred("z", "x", parents=("x",)), simulated("x", "z")], "graph.z.parents: only a simulator has parents"),
        ([inferred("z", "x"), simulated("x", "z", prior=prior())], "priors.x: node 'x' also has a simulator"),
        ([inferred("z", "x"), simulated("x", "z", backend="jax")], "graph.x.backend=jax: expected numpy or torch"),
        ([inferred("z", "x"), simulated("x", batched=True)], "graph.x.batched=true: without parents"),
        ([inferred("z", "x"), simulated("x", "z", simulator=3)], "graph.x.simulator: int has no __call__"),
        ([inferred("index", "x"), simulated("x", "index")], "graph.index: expected letters"),
        ([inferred("z-1", "x"), simulated("x", "z-1")], "graph.z-1: expected letters"),
    ],
)
def test_mistake_is_refused_by_key(nodes, start):
    assert error_of(*nodes).startswith(start)


def test_parents_must_fit_the_simulator():
    message = error_of(inferred("a", "x"), inferred("b", "x"), simulated("x", "a", "b", simulator=toy.add_noise))
    assert message.startswith("graph.x.parents=['a', 'b']: the simulator cannot be called with 2 values")


def test_files_must_have_as_many_observations():
    message = error_of(inferred("z", "x", truth=OBSERVED[:1]), simulated("x", "z"))
    assert message.startswith("graph.x.observed: file has 3 observations, graph.z.truth has 1")


@pytest.mark.parametrize("labels", [("rate",), ("rate", "half-life", "$")])
def test_there_is_a_label_for_each_parameter(labels):
    message = error_of(inferred("z", "x", labels=labels), simulated("x", "z"))
    assert message.startswith(f"graph.z.labels={list(labels)}: {len(labels)} given, expected 2, one for each parameter")


# --- from the config ---


def config(tmp_path, **x):
    np.savez(tmp_path / "observations.npz", x=OBSERVED, z=OBSERVED + 1)
    file = str(tmp_path / "observations.npz")
    block = {"parents": ["z"], "simulator": {"_target_": "tests.support.toy_simulators.first"}, "observed": file}
    return {"z": {"evidence": ["x"], "truth": file}, "x": block | x}


PRIORS = {"z": {"_target_": "framework.priors.Uniform", "low": [-1, -1], "high": [1, 1]}}


def test_graph_is_built_from_plain_mappings(tmp_path):
    graph = build_graph(config(tmp_path, batched=True, backend="torch"), PRIORS)
    z, x = graph.simulation_order
    assert z.prior.dim == 2 and z.truth.tolist() == [[1, 1]] * 3
    assert x.simulator is toy.first and x.batched and x.backend == "torch" and x.observed.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"bathced": True}, "graph.x.bathced: unknown key"),
        ({"parents": "z"}, "graph.x.parents=z: expected a list of node names, for example [z]"),
        ({"batched": "yes"}, "graph.x.batched='yes': expected true or false"),
        (
            {"simulator": {"_target_": "tests.support.toy_simulators.frist"}},
            "graph.x.simulator._target_=tests.",
        ),
        ({"observed": "missing.npz"}, "graph.x.observed=missing.npz: no such file"),
        ({"labels": "a"}, "graph.x.labels=a: expected a list with one text for each"),
        ({"labels": [1, 2]}, "graph.x.labels=[1, 2]: 1 is not text"),
        ({"labels": ["a", " "]}, "graph.x.labels=['a', ' ']: ' ' is not text"),
        ({"labels": ["a", "a"]}, "graph.x.labels=['a', 'a']: 'a' is listed twice"),
    ],
)
def test_mistake_in_the_config_is_refused_by_key(tmp_path, change, start):
    with pytest.raises(ConfigError) as caught:
        build_graph(config(tmp_path, **change), PRIORS)
    assert str(caught.value).startswith(start)


def test_prior_without_a_node_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"priors\.zz: no node 'zz' in the graph, only z, x; did you mean 'z'\?"):
        build_graph(config(tmp_path), PRIORS | {"zz": PRIORS["z"]})
