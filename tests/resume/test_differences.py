"""The differences of two configurations, and how each resume class treats them, for every key of the schema."""

import copy
import dataclasses
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config.parse import from_container, parse_config, resolve
from framework.config.resume_class import INSTRUCTIONS, resume_class
from framework.config.schema import Config, NodeConfig
from framework.resume import differences
from framework.resume.differences import Change
from framework.resume.verdicts import judge
from tests.support.toy_run import composed

# The contract, the first match counts; what the schema declares is compared with it.
CLASSES = [
    (r"(resume|resume_from|resume_allow|overwrite|trust)\b.*", None),
    (r"(graph\.\w+\.)?(inference\b.*|loop\.num_epochs)|(runtime|tracking)\..*|name|device", "free"),
    (r"simulation\.(workers|max_invalid_fraction)|graph\.\w+\.((observed|truth)|labels\b.*)", "free"),
    (r"(graph\.\w+\.)?loop\.compile", "shape"),
    (r"(graph\.\w+\.)?(loop\b.*|optimizer(?!\._target_$)\b.*)|seed|simulation\.num_simulations", "trajectory"),
    (r"(graph\.\w+\.)?(network|embedding|optimizer\._target_)\b.*|priors\..*|simulation\.from_file", "shape"),
    (r"graph\.\w+\.(parents|evidence|simulator|batched|backend)\b.*", "shape"),
]
OVERRIDES = [
    "experiment=signal_chain",
    "embedding=mlp",
    "+graph.source.network.hidden_dim=9",
    "+graph.source.loop={batch_size: 7, num_epochs: 11}",
    "+graph.source.optimizer={lr: 0.5, scheduler: {factor: 0.3}}",
    "+graph.source.inference.num_samples=11",
    "+graph.source.embedding.output_dim=5",
    "+graph.signal.simulator.noise={scale: [1.0, 2.0]}",
]
CONFIG = dataclasses.asdict(parse_config(composed(*OVERRIDES)[0]))


def leaves(value, path=()):
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [leaf for name, item in children for leaf in leaves(item, (*path, name))] if value and children else [path]


LEAVES = leaves(CONFIG)


def key(path):
    return ".".join(map(str, path))


def expected_class(path):
    return next(kind for pattern, kind in CLASSES if re.fullmatch(pattern, key(path)))


def at(config, path):
    for name in path:
        config = config[name]
    return config


def changed(config, *changes):
    """Return the configuration with other values at the given paths."""
    config = copy.deepcopy(config)
    for path, value in changes:
        at(config, path[:-1])[path[-1]] = value
    return config


def judged(old, new, allow=()):
    changes = differences(old, new)
    judge(changes, allow)
    return changes


VALUES = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.lists(st.integers(), max_size=3)
)
CHANGE = st.tuples(st.sampled_from(LEAVES), VALUES.map(lambda value: ["other", value]))  # a list is never there yet
INSTRUCTED = [path for path in LEAVES if expected_class(path) is None]
SHAPE_LEAVES = [path for path in LEAVES if expected_class(path) == "shape"]


def paths_of(cls, prefix=()):
    for field in dataclasses.fields(cls):
        path = (*prefix, field.name)
        yield path
        hint = {"graph": NodeConfig}.get(field.name) or type(getattr(Config(), field.name, None))
        if dataclasses.is_dataclass(hint):
            yield from paths_of(hint, (*path, "node") if field.name == "graph" else path)


@pytest.mark.parametrize("path", list(paths_of(Config)), ids=key)
def test_every_key_of_the_schema_has_a_class(path):
    if path != ("simulation",):  # its keys have their own
        assert resume_class(path) in ("shape", "trajectory", "free")


def test_a_key_without_a_class_is_noticed():
    with pytest.raises(LookupError, match="simulation: no resume class"):
        resume_class(("simulation",))


@given(CHANGE)
def test_a_single_change_has_the_outcome_of_its_class(change):
    path, value = change
    changes = judged(CONFIG, changed(CONFIG, (path, value)))
    kind = expected_class(path)
    if kind is None:
        assert not changes
        return
    assert {c.kind for c in changes} == {kind}
    assert {c.verdict for c in changes} == {"" if kind == "free" else "refused"}
    assert all(c.path[: len(path)] == path for c in changes)


@given(CHANGE, st.sampled_from(["key", "group", "pattern", "class"]))
def test_resume_allow_permits_a_change_of_the_trajectory_and_nothing_else(change, how):
    path, value = change
    words = {"key": key(path), "group": str(path[0]), "pattern": f"{path[0]}*", "class": "trajectory"}
    for found in judged(CONFIG, changed(CONFIG, (path, value)), [words[how]]):
        assert found.verdict == {"shape": "refused", "trajectory": "allowed", "free": ""}[found.kind]


@pytest.mark.parametrize(
    ("item", "key", "allows"),
    [
        ("optimizer", "optimizer.lr", True),
        ("optimizer", "optimizer.scheduler.factor", True),
        ("optimizer.scheduler", "optimizer.scheduler.factor", True),
        ("optimizer.lr", "optimizer.lr", True),
        ("optim", "optimizer.lr", False),
        ("optimizer.l", "optimizer.lr", False),
        ("optimizer.lr", "optimizer.lr_decay", False),
        ("optimizer.scheduler", "optimizer.scheduler_steps", False),
        ("optimizer.", "optimizer.lr", False),
        ("", "optimizer.lr", False),
        ("lr", "optimizer.lr", False),
        ("optim*", "optimizer.lr", True),
        ("code", "code.simulator.decay", True),
        ("code.simulator", "code.simulators.decay", False),
        ("trajector", "optimizer.lr", False),
        ("version", "version", True),
        ("trajectory", "version", False),
        ("*", "version", False),
    ],
)
def test_resume_allow_matches_a_key_or_its_group_and_never_a_mere_prefix(item, key, allows):
    change = Change(tuple(key.split(".")), "trajectory", 1, 2)
    judge([change], [item])
    assert change.verdict == ("allowed" if allows else "refused")


@given(st.sampled_from(SHAPE_LEAVES), st.lists(CHANGE, max_size=8), st.lists(st.sampled_from([*map(key, LEAVES), "*"])))
def test_a_change_of_shape_is_refused_whatever_else_changes(path, others, allow):
    others = [other for other in others if other[0] != path]
    changes = judged(CONFIG, changed(CONFIG, *others, (path, ["other"])), [*allow, "trajectory", "version", key(path)])
    assert [c.verdict for c in changes if c.path[: len(path)] == path] == ["refused"]


@given(st.lists(CHANGE, max_size=5))
def test_a_configuration_does_not_differ_from_itself(changes):
    config = changed(CONFIG, *{path: (path, value) for path, value in changes}.values())
    assert differences(config, copy.deepcopy(config)) == []


def respelt(value):
    """The same in other words: whole numbers as floats, keys in another order."""
    if isinstance(value, dict):
        return {name: respelt(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [respelt(item) for item in value]
    return float(value) if type(value) is int else value


def test_other_spellings_are_no_difference():
    container = respelt(resolve(composed(*OVERRIDES)[0]))
    container["runtime"] |= {"periodic_checkpoint_every": "1800", "grace": "0.5m"}
    assert differences(CONFIG, dataclasses.asdict(from_container(container))) == []
    interpolated = composed(*OVERRIDES, "inference.num_samples=${inference.batch_size}")[0]
    assert differences(CONFIG, dataclasses.asdict(parse_config(interpolated))) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"_target_": "a", "b": 1}, {"_target_": "a", "b": 2}, {"b": (1, 2)}),
        ({"_target_": "a", "b": 1}, {"_target_": "c"}, {"_target_": ("a", "c"), "b": (1, "—")}),
        (None, {"_target_": "a", "b": {"c": 1}}, {"_target_": ("—", "a"), "b.c": ("—", 1)}),
        ({"b": [1, 2, 3]}, {"b": [1, 5, 3]}, {"b.1": (2, 5)}),
        ({"b": [1, 2]}, {"b": [0, 1, 2]}, {"b.0": ("—", 0)}),
        ({"b": [{"c": 1, "d": 2}]}, {"b": [{"d": 2, "c": 3}]}, {"b.0.c": (1, 3)}),
        ({"b": True}, {"b": 1}, {"b": (True, 1)}),
        ({"b": "1"}, {"b": 1}, {"b": ("1", 1)}),
        ({"b": 1e-13}, {"b": 2e-13}, {"b": (1e-13, 2e-13)}),
        ({"b": float("nan")}, {"b": float("nan")}, {}),
        ({"b": None}, {"b": {}}, {}),
        ({"b": [1]}, {"b": {"c": 1}}, {"b": ([1], {"c": 1})}),
    ],
    ids=str,
)
def test_lists_and_groups_differ_by_element(old, new, found):
    changes = differences({**CONFIG, "embedding": old}, {**CONFIG, "embedding": new})
    values = {
        c.key.removeprefix("embedding."): tuple(v if v.__class__ in JSON else repr(v) for v in (c.old, c.new))
        for c in changes
    }
    assert values == found


JSON = (bool, int, float, str, list, dict)


def test_a_node_that_is_added_or_removed_is_one_change_and_its_prior_another():
    node, prior = dataclasses.asdict(NodeConfig(evidence=["data"])), {"_target_": "framework.priors.Fixed", "value": 1}
    more = {"graph": {**CONFIG["graph"], "extra": node}, "priors": {**CONFIG["priors"], "extra": prior}}
    for old, new in ((CONFIG, CONFIG | more), (CONFIG | more, CONFIG)):
        assert [(c.key, c.kind) for c in differences(old, new)] == [("graph.extra", "free"), ("priors.extra", "free")]


def test_the_prior_of_a_node_that_stays_is_part_of_every_simulation():
    node = next(iter(CONFIG["priors"]))
    fewer = {**CONFIG, "priors": {name: prior for name, prior in CONFIG["priors"].items() if name != node}}
    assert {c.kind for c in differences(CONFIG, fewer)} == {"shape"}


def test_the_observation_of_a_node_that_is_never_drawn_is_part_of_every_simulation():
    covariate = dataclasses.asdict(NodeConfig(observed="a.npy"))
    old, new = ({**CONFIG, "graph": {**CONFIG["graph"], "c": {**covariate, "observed": f}}} for f in ("a.npy", "b.npy"))
    assert [c.kind for c in differences(old, new)] == ["shape"]
    other = changed(CONFIG, (("graph", "data", "observed"), "b.npy"))
    assert [c.kind for c in differences(CONFIG, other)] == ["free"]


def test_the_instructions_to_one_attempt_are_not_part_of_the_run():
    assert {path[0] for path in INSTRUCTED} == INSTRUCTIONS


@pytest.mark.parametrize("every", [1000, 1])
def test_three_thousand_keys_are_compared_at_once(every):
    big = {f"part{i}": {"values": [float(i), 2.0, 3.0], "depth": i} for i in range(750)}
    old = {**CONFIG, "network": big}
    new = copy.deepcopy(old)
    for i in range(0, 750, every):
        new["network"][f"part{i}"]["depth"] = -1
    started = time.perf_counter()
    changes = differences(old, new)
    seconds = time.perf_counter() - started
    print(f"{len(leaves(old))} keys, {len(changes)} changed: {seconds:.3f} s")
    assert len(changes) == len(range(0, 750, every))
    assert seconds < 2
