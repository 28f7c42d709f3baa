"""Override strings are parsed in one place, and no value from a record can break the parser."""

import ast
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from framework.cli import options_first
from framework.config.overrides import Override, is_override, last_of, last_to_set, quoted, recorded
from framework.diff import compatible_overrides
from framework.launcher.names import values_of
from framework.paths import CONF_DIR, register_bundle

ROOT = Path(__file__).parents[2] / "framework"
register_bundle()


@pytest.mark.parametrize(
    ("text", "prefix", "key", "package", "value"),
    [
        ("seed=3", "", "seed", None, "3"),
        ("+graph.z.loop.batch_size=7", "+", "graph.z.loop.batch_size", None, "7"),
        ("++tracking.a=", "++", "tracking.a", None, ""),
        ("~optimizer.scheduler", "~", "optimizer.scheduler", None, None),
        ("~seed=3", "~", "seed", None, "3"),
        ("optimizer/scheduler=cosine", "", "optimizer/scheduler", None, "cosine"),
        ("network@graph.z.network=maf", "", "network", "graph.z.network", "maf"),
        ("graph.x.observed='a=b@c.npy'", "", "graph.x.observed", None, "'a=b@c.npy'"),
        ("+embedding={a: 'x=1'}", "+", "embedding", None, "{a: 'x=1'}"),
        ("name=two\nlines", "", "name", None, "two\nlines"),
        ("", "", "", None, None),
        ("=5", "", "", None, "5"),
    ],
)
def test_an_override_is_taken_apart(text, prefix, key, package, value):
    assert Override.parse(text) == Override(text, prefix, key, package, value)


@given(st.text())
def test_any_text_can_be_taken_apart(text):
    override = Override.parse(text)
    assert override.prefix + override.name + ("" if override.value is None else f"={override.value}") == text
    assert isinstance(override.sets(["graph", "z"]), bool)
    assert isinstance(is_override(text), bool)


@pytest.mark.parametrize(
    ("argument", "is_one"),
    [
        ("seed=3", True),
        ("+resume=true", True),
        ("++a.b=1", True),
        ("~tracking", True),
        ("optimizer/scheduler=cosine", True),
        ("network@graph.z.network=maf", True),
        ("--config-dir=conf", False),
        ("-m", False),
        ("outputs/two_moons", False),
        ("/data/seed=3/run", False),
        ("./seed=3", False),
        ("=3", False),
        ("", False),
    ],
)
def test_an_override_is_told_from_an_option_and_a_path(argument, is_one):
    assert is_override(argument) is is_one


def test_a_directory_of_a_sweep_stays_with_the_option_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conf=2/seed=3").mkdir(parents=True)
    typed = ["seed=3", "--config-dir", "conf=2/seed=3", "network=maf"]
    assert options_first(typed) == ["--config-dir", "conf=2/seed=3", "seed=3", "network=maf"]


@pytest.mark.parametrize(
    ("override", "path", "sets"),
    [
        ("optimizer.lr=1", ["optimizer", "lr"], True),
        ("optimizer=adamw", ["optimizer", "lr"], True),
        ("optimizer/scheduler=cosine", ["optimizer", "scheduler", "T_max"], True),
        ("priors.z={low: 1}", ["priors"], True),
        ("~optimizer.lr", ["optimizer", "lr"], True),
        ("network@graph.z.network=maf", ["graph", "z", "network", "hidden_dim"], True),
        ("network@graph.z.network=maf", ["network", "hidden_dim"], False),
        ("experiment@_global_=decay", ["optimizer", "lr"], False),
        ("optimizer.lr=1", ["optimizer", "lr_max"], False),
        ("graph.z.labels=[a]", ["graph", "z", "labels", 0], True),
        ("=1", ["seed"], False),
    ],
)
def test_which_keys_an_override_sets(override, path, sets):
    assert Override.parse(override).sets(path) is sets
    assert last_to_set([override, "other=1"], path) == (override if sets else None)


def test_of_two_overrides_for_one_key_the_last_counts():
    overrides = ["+seed=1", "network=maf", "seed=2", "~seed", "network/x@p=a=b"]
    assert last_of(overrides, "seed") == "seed=2"
    assert last_of(overrides, "name") is None
    assert values_of(overrides) == {"seed": "", "network": "maf", "network.x": "a=b"}


HOSTILE = [
    None,
    5,
    "text",
    {"seed=1": 2},
    [None, 5, "", ["seed=1"], "\0", "a" * 200_000, "~", "=", "@", "+", "\x1b[2J"],
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_a_record_may_hold_anything_in_place_of_overrides(value):
    overrides = recorded(value)
    assert all(isinstance(override, str) and 0 < len(override) < 131_072 for override in overrides)
    compatible_overrides(["seed=1"], overrides)
    values_of(overrides)
    last_to_set(overrides, ["network", "hidden_dim"])


@pytest.mark.parametrize(
    "override",
    ["hydra.searchpath=[pkg://this]", "++hydra.callbacks.a=1", "hydra/launcher=b", "network@hydra.x=maf", "trust=true"],
)
def test_what_a_run_cannot_have_recorded_is_not_composed_again(override):
    assert compatible_overrides([], ["seed=1", override]) == ["seed=1"]


def test_the_overrides_of_a_sound_record_are_all_kept():
    overrides = ["name=mine", "graph.x.labels=['a b','c']", "+priors.z={_target_: a.B}", "~network"]
    assert recorded(overrides) == recorded(tuple(overrides)) == overrides


@pytest.mark.parametrize(
    "name", ["plain", "it's", "back\\", "b\\'a", "b\\\\', 'pkg://this", "[a,b]=c", "${name}", "\\'"]
)
def test_hydra_reads_a_quoted_value_as_that_text(name):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("config", overrides=[f"name={quoted(name)}"])
    assert composed._get_node("name")._value() == name


def test_no_other_file_takes_overrides_apart():
    found = [f"{path.relative_to(ROOT)}:{line}" for path in sorted(ROOT.rglob("*.py")) for line in readers(path)]
    assert found == []


def test_what_takes_overrides_apart_is_recognised(tmp_path):
    lines = [
        "key, _, value = override.partition('=')",
        "key = override.split('=', 1)[0]",
        "key = override.lstrip('+~')",
        "is_one = re.match(r'~|[+\\w][^ ]*=', text)",
        "KEY = re.compile(r'(?:\\+\\+|\\+|~)?([^=@]+)(?:=|$)')",
        "deleted = override.startswith('~')",
    ]
    (tmp_path / "a.py").write_text("\n".join(lines))
    assert sorted(readers(tmp_path / "a.py")) == [1, 2, 3, 4, 5, 6]


def readers(path):
    """Yield the lines that split texts at `=`, strip or look for the prefixes of an override, or have a regex do so."""
    if path == ROOT / "config/overrides.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        method, argument = node.func.attr, node.args[0]
        text = argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else ""
        splits = method in ("partition", "rpartition", "split", "rsplit") and text == "="
        prefix = method in ("lstrip", "strip", "removeprefix", "startswith") and set(text) & set("+~")
        is_regex = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
        pattern = is_regex and "=" in text and re.search(r"~[|)]|\\\+|\[\+|\[\^=|\]\+=", text)
        if splits or prefix or pattern:
            yield node.lineno
