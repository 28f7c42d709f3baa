"""Targets that a run directory names: only what their place expects is called, unless the user trusts the directory."""

import sys
from pathlib import Path

import pytest
import torch

from framework import load_run
from framework.checkpoint import CheckpointStore
from framework.config.parse import from_container
from framework.config.target import targets_of
from framework.config.trust import check_targets
from framework.errors import CheckpointError, ConfigError
from framework.estimators import Estimator, EstimatorSpec
from framework.estimators.weight_files import init_parameters, load_estimator, weight_files
from framework.rundir.directory import RunDirectory
from tests.support.toy_run import begin
from tests.support.toy_training import NETWORKS

UNIFORM = {"_target_": "framework.priors.Uniform", "low": [-1, -1], "high": [1, 1]}
PROJECT = """
import functools, os, subprocess
import numpy as np
from subprocess import Popen
from torch import nn
from torch.optim import Adam
from framework.priors import Uniform

def simulate(theta): return theta
def lookup(epoch): return 1.0
def prior(scale): return Uniform(low=-scale, high=scale)
system = os.system
run = functools.partial(subprocess.run, ["true"])
noisy = functools.partial(simulate)
READY = Uniform(low=0, high=1)

class Net(nn.Module): pass
class Paced(Adam): pass
class Simulator:
    def __call__(self, theta): return theta
    @staticmethod
    def draw(theta): return theta
class Tracker:
    def log(self, record): pass
    def cut_back(self, node, step): pass
    def close(self): pass
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The directory where the command is typed, with a module of the user's own."""
    (tmp_path / "mine_for_trust.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.endswith("_for_trust") or name.startswith("outputs")]:
        del sys.modules[name]


def config_with(key, block):
    config = block if isinstance(block, dict) else {"_target_": block}
    for name in reversed(key.split(".")):
        config = {name: config}
    return config


def check(key, block, trusted=None, where="outputs/theirs"):
    check_targets(config_with(key, block), trusted, Path(where))


ALLOWED = [
    ("network", "framework.estimators.Flow"),
    ("network", "torch.nn.Linear"),
    ("network", "mine_for_trust.Net"),
    ("graph.z.network", "framework.estimators.Gaussian"),
    ("embedding", "torch.nn.Flatten"),
    ("graph.z.embedding", "framework.networks.MLP"),
    ("graph.z.embedding.x", "mine_for_trust.Net"),
    ("embedding", {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]}),
    ("embedding", {"_target_": "mine_for_trust.Net", "activation": {"_target_": "torch.nn.functional.gelu"}}),
    ("embedding", {"_target_": "mine_for_trust.Net", "hook": {"_target_": "mine_for_trust.lookup"}}),
    ("priors.z", "framework.priors.LogUniform"),
    ("priors.z", "torch.distributions.Gamma"),
    ("priors.z", "mine_for_trust.prior"),
    ("priors.z", {"_target_": "framework.priors.Product", "factors": [{"_target_": "torch.distributions.Beta"}]}),
    ("priors.z", {"_target_": "torch.distributions.Beta", "a": [{"_target_": "torch.distributions.ExpTransform"}]}),
    ("optimizer", "torch.optim.AdamW"),
    ("optimizer", "mine_for_trust.Paced"),
    ("graph.z.optimizer", "torch.optim.SGD"),
    ("optimizer.scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
    (
        "optimizer.scheduler",
        {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr": {"_target_": "mine_for_trust.lookup"}},
    ),
    ("tracking.jsonl", "framework.tracking.JsonlTracker"),
    ("tracking.mine", "mine_for_trust.Tracker"),
    ("graph.x.simulator", "mine_for_trust.simulate"),
    ("graph.x.simulator", "mine_for_trust.Simulator"),
    ("graph.x.simulator", "mine_for_trust.Simulator.draw"),
    ("graph.x.simulator", "mine_for_trust.noisy"),
    ("graph.x.simulator", "experiments.two_moons.simulator.simulate"),
]
PLACES = ["network", "embedding", "graph.z.embedding.x", "optimizer", "optimizer.scheduler", "priors.z", "tracking.a"]
PLACES += ["graph.x.simulator", "network.activation", "priors.z.base", "graph.x.simulator.net.0"]
NOWHERE_ALLOWED = [
    "subprocess.Popen",
    "builtins.eval",
    "os.system",
    "posix.system",
    "functools.partial",
    "torch.load",
    "torch.hub.load",
    "torch.utils.cpp_extension.load",
    "torch.os.system",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.functional.handle_torch_function",
    "torch.nn.functional.boolean_dispatch",
    "torch.nn.Module.__init__.__globals__",
    "torch.serialization.load",
    "torch.jit.load",
    "numpy.load",
    "framework.cli.run_command",
    "framework.train.sys.exit",
    "framework.files.replace_file",
    "hydra.utils.call",
    "mine_for_trust.Popen",
    "mine_for_trust.system",
    "mine_for_trust.run",
    "mine_for_trust.os.system",
    "mine_for_trust.np.load",
    "mine_for_trust.subprocess.Popen",
    "mine_for_trust.simulate.__globals__.get",
    "mine_for_trust.READY.sample",
    "mine_for_trust",
    "sys",
    "",
    "..",
    "a b.c",
    "\x1b[2J.c",
    5,
    None,
    ["os.system"],
    {"a": 1},
]


@pytest.mark.parametrize(("key", "block"), ALLOWED, ids=str)
def test_what_its_place_expects_may_be_named(project, key, block):
    check(key, block)


@pytest.mark.parametrize("target", NOWHERE_ALLOWED, ids=repr)
def test_nothing_else_may_be_named_at_any_place(project, target):
    for key in PLACES:
        with pytest.raises(ConfigError) as refused:
            check(key, {"_target_": target})
        message = str(refused.value)
        assert f"outputs/theirs: {key}._target_=" in message and message.isprintable()
        assert message.endswith("If you trust whoever wrote the directory, add trust=true")
        assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "target", "expected"),
    [
        ("network", "torch.optim.Adam", "expected a torch.nn.Module class"),
        ("network", "mine_for_trust.Simulator", "is not allowed here; expected a torch.nn.Module class"),
        ("network", "torch.nn.functional.relu", "expected a torch.nn.Module class"),
        ("graph.z.embedding", "framework.priors.Uniform", "expected a torch.nn.Module class"),
        ("optimizer", "torch.nn.Linear", "expected a torch.optim.Optimizer class"),
        ("optimizer.scheduler", "torch.optim.Adam", "expected a class of torch.optim.lr_scheduler"),
        ("priors.z", "torch.nn.Linear", "expected a class of framework.priors or torch.distributions, or your own"),
        ("tracking.a", "torch.nn.Linear", "expected a class of framework.tracking, or your own tracker"),
        ("tracking.a", "mine_for_trust.Simulator", "expected a class of framework.tracking, or your own tracker"),
        (
            "graph.x.simulator",
            "torch.nn.Linear",
            "belongs to an installed package; expected a function or class of your",
        ),
        (
            "graph.x.simulator",
            "numpy.random.default_rng",
            "belongs to an installed package; expected a function or class",
        ),
        ("network", "mine_for_trust.nn.Linear", "refers to the module torch.nn; expected a torch.nn.Module class"),
        ("graph.x.simulator", "mine_for_trust.noisy.func", "passes through a partial; expected a function or class of"),
        ("graph.x.simulator", "math.sqrt", "belongs to Python; expected a function or class of your own project"),
        ("graph.x.labels", "mine_for_trust.simulate", "expected no _target_ here"),
        ("inference", "mine_for_trust.simulate", "expected no _target_ here"),
        ("priors", "framework.priors.Uniform", "expected no _target_ here"),
        ("simulator", "mine_for_trust.simulate", "expected no _target_ here"),
    ],
)
def test_a_refusal_says_what_the_place_expects(project, key, target, expected):
    with pytest.raises(ConfigError) as refused:
        check(key, target)
    assert f"{key}._target_={target} " in str(refused.value) and expected in str(refused.value)


@pytest.mark.parametrize("target", ["antigravity.fly", "this.s", "test.autotest.main", "idlelib.idle.main"])
def test_what_comes_with_python_is_refused_without_importing_it(target):
    module = target.rpartition(".")[0]
    for key in PLACES:
        with pytest.raises(ConfigError, match="belongs to Python"):
            check(key, target)
    assert module not in sys.modules


def test_no_package_is_imported_to_look_for_a_simulator():
    with pytest.raises(ConfigError, match="belongs to an installed package"):
        check("graph.x.simulator", "hatchling.build.build_wheel")
    assert "hatchling" not in sys.modules


def test_of_an_installed_package_only_classes_of_the_kind_may_be_named(project, monkeypatch):
    (project / "site-packages").mkdir()
    (project / "site-packages/installed_for_trust.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(project / "site-packages")
    for key, name in [("network", "Net"), ("optimizer", "Paced")]:
        check(key, f"installed_for_trust.{name}")
    for key, name in [("tracking.a", "Tracker"), ("priors.z", "prior"), ("network.hook", "lookup")]:
        with pytest.raises(ConfigError, match=rf"installed_for_trust.{name} is not allowed here; expected"):
            check(key, f"installed_for_trust.{name}")


def test_the_program_of_a_package_is_not_run(project):
    (project / "tool_for_trust").mkdir()
    (project / "tool_for_trust/__main__.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ConfigError, match="is not the path of a class or function"):
        check("graph.x.simulator", "tool_for_trust.__main__.main")


def test_what_cannot_be_imported_is_said_like_anywhere_else(project):
    (project / "broken_for_trust.py").write_text("1 / 0")
    (project / "lazy_for_trust.py").write_text("def __getattr__(name): raise RuntimeError('not now')")
    for target, reason in [
        ("nowhere_for_trust.f", "No module named 'nowhere_for_trust'"),
        ("mine_for_trust.nothing", "No module named 'mine_for_trust.nothing'"),
        ("mine_for_trust.Net.nothing", "'mine_for_trust.Net' has no 'nothing'"),
        ("broken_for_trust.f", "ZeroDivisionError: division by zero"),
        ("lazy_for_trust.f", "RuntimeError: not now"),
    ]:
        message = rf"graph.x.simulator._target_=.* cannot be imported \({reason}\); .* from here$"
        with pytest.raises(ConfigError, match=message):
            check("graph.x.simulator", target)


@pytest.mark.parametrize("owner", ["theirs", "another"])
def test_code_that_came_with_a_run_is_not_the_users_own(project, owner):
    for name in ("theirs", "another"):
        (project / "outputs" / name).mkdir(parents=True)
    (project / f"outputs/{owner}/payload.py").write_text("raise SystemExit('it was run')")
    for name in ("run.json", "config.yaml"):
        (project / "outputs/another" / name).touch()
    with pytest.raises(ConfigError, match="is code inside a run directory"):
        check("graph.x.simulator", f"outputs.{owner}.payload.f")


def test_nor_is_code_that_a_link_leads_to(project):
    (project / "outputs/theirs").mkdir(parents=True)
    (project / "outputs/theirs/payload.py").write_text("raise SystemExit('it was run')")
    (project / "linked_for_trust.py").symlink_to("outputs/theirs/payload.py")
    with pytest.raises(ConfigError, match="is code inside a run directory"):
        check("graph.x.simulator", "linked_for_trust.f")


def test_a_target_that_the_user_has_composed_at_the_same_place_needs_nothing():
    block = {"_target_": "subprocess.run", "args": ["true"]}
    check("graph.x.simulator", block, trusted=config_with("graph.x.simulator", "subprocess.run"))
    with pytest.raises(ConfigError, match=r"subprocess.run belongs to Python"):
        check("graph.x.simulator", block, trusted=config_with("graph.y.simulator", "subprocess.run"))
    with pytest.raises(ConfigError, match=r"subprocess.run belongs to Python"):
        check("graph.x.simulator", block, trusted=config_with("graph.x.simulator", "subprocess.Popen"))


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def doubled(times):
    value = []
    for _ in range(times):
        value = [value, value]
    return value


def endless():
    value = {}
    value["a"] = value
    return value


@pytest.mark.parametrize("make", [lambda: deep(100_000), lambda: doubled(60), endless], ids=["deep", "wide", "endless"])
def test_a_config_that_nothing_could_walk_through_is_refused(make):
    with pytest.raises(ConfigError, match=r"outputs/theirs: .*not a valid config of a run"):
        check_targets({"network": make()}, None, Path("outputs/theirs"))


def test_nor_is_it_read_as_a_config():
    with pytest.raises(ConfigError, match=r"network: nested more than 64 levels deep"):
        from_container({"name": "a", "network": deep(900)})
    with pytest.raises(ConfigError, match="a key must be text without control characters"):
        from_container({"name": "a", "network": {"a\nput back: b": 1}})


def test_targets_are_told_by_the_path_of_their_blocks():
    config = {"a": {"_target_": "b", "c": [1, {"_target_": "d"}]}, "e": None}
    assert targets_of(config) == {("a",): "b", ("a", "c", 1): "d"}


# --- runs ---


def hostile_run(*overrides):
    """Return a run directory as somebody may have made it; nothing is built of the overrides."""
    directory = RunDirectory(Path("outputs/theirs"))
    begin(directory, *overrides)
    return directory


def planted(marker):
    return f"{{_target_: subprocess.check_call, args: [touch, {marker}]}}"


def test_a_prior_of_a_stranger_is_not_called(project):
    run = load_run(hostile_run("~priors.z", f"+priors.z={planted('called')}").path)
    with pytest.raises(ConfigError, match=r"outputs/theirs: priors.z._target_=subprocess.check_call belongs to Python"):
        _ = run.graph
    assert not Path("called").exists()


def test_nor_is_a_simulator(project):
    run = load_run(hostile_run("graph.x.simulator._target_=os.system").path)
    with pytest.raises(ConfigError, match=r"graph.x.simulator._target_=os.system belongs to Python"):
        _ = run.graph


def checkpoint(directory, spec):
    """Commit a checkpoint of node z, whose estimator is described by `spec`."""
    estimator = Estimator(EstimatorSpec("z", NETWORKS["gaussian"], None, 2, {"x": (2,)}, {"z": UNIFORM}))
    weights = weight_files(estimator, estimator.state_dict(), "_best")
    files = {**weights, "init_parameters.pth": {**init_parameters(estimator), "spec": spec}}
    return CheckpointStore(directory.checkpoints_dir).commit(
        {f"z/{name}": content for name, content in files.items()}, {"nodes": ["z"]}
    )


@pytest.mark.parametrize("part", ["network", "embedding", "priors.z"])
def test_nor_is_anything_of_the_estimator(project, part):
    directory = hostile_run(f"~{part}", f"+{part}={planted('called')}")
    block = {"_target_": "subprocess.check_call", "args": ["touch", "called"]}
    spec = EstimatorSpec("z", NETWORKS["gaussian"], None, 2, {"x": (2,)}, {"z": UNIFORM}).to_container()
    checkpoint(directory, spec | ({"priors": {"z": block}} if part == "priors.z" else {part: block}))
    directory.write_arrays({"x": torch.zeros(1, 2).numpy()}, {})
    run = load_run(directory.path)
    with pytest.raises(ConfigError, match=rf"outputs/theirs: {part}._target_=subprocess.check_call belongs to Python"):
        run.posterior("z")
    assert not Path("called").exists()


def test_trust_calls_what_the_directory_names(project):
    run = load_run(hostile_run("~priors.z", f"+priors.z={planted('called')}").path, trust=True)
    with pytest.raises(ConfigError, match=r"expected a prior of framework.priors"):
        _ = run.graph
    assert Path("called").exists()


def test_a_directory_cannot_say_that_it_is_to_be_trusted(project):
    run = load_run(hostile_run("trust=true", "graph.x.simulator._target_=os.system").path)
    with pytest.raises(ConfigError, match="add trust=true"):
        _ = run.graph


def test_a_checkpoint_may_not_move_a_target_to_another_place(tmp_path):
    known = EstimatorSpec("z", NETWORKS["gaussian"], None, 2, {"x": (2,)}, {"z": UNIFORM}).to_container()
    generation = checkpoint(RunDirectory(tmp_path), known | {"embedding": {"_target_": UNIFORM["_target_"]}})
    with pytest.raises(
        CheckpointError, match=r"init_parameters.pth: refused, because it names framework.priors.Uniform"
    ):
        load_estimator(generation, "z", known)


@pytest.mark.parametrize("spec", [None, 5, {}, [], {"node": "z"}, {"a": {"_target_": []}}, "full"], ids=repr)
def test_a_checkpoint_that_describes_no_estimator_is_called_damaged(tmp_path, spec):
    known = EstimatorSpec("z", NETWORKS["gaussian"], None, 2, {"x": (2,)}, {"z": UNIFORM}).to_container()
    generation = checkpoint(RunDirectory(tmp_path), known | {"network": None} if spec == "full" else spec)
    with pytest.raises(
        CheckpointError, match=r"init_parameters.pth: (does not describe an estimator|damaged)"
    ) as refused:
        load_estimator(generation, "z", known)
    assert refused.value.exit_code == 4
