"""Command lines with mistakes, and without: chosen at random, each a function of its seed and number alone.

The keys are those of the schema and of what it composes to, the groups are those of `conf`.
"""

import dataclasses
import os
import random
import re
import shutil
import typing
from functools import cache
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from framework.config.schema import Config
from framework.paths import CONF_DIR, register_bundle
from tests.integration.command import warm_start

EXPERIMENT = """# @package _global_
name: tiny
graph:
  z: {evidence: [x]}
  x:
    parents: [z]
    simulator: {_target_: simulator.shifted, shift: 0.5}
    observed: observed.npy
priors:
  z: {_target_: framework.priors.Normal, mean: [0, 0], std: [1, 1]}
network: {hidden_dim: 2, num_layers: 1, num_transforms: 1}
simulation: {num_simulations: 20}
loop: {num_epochs: 1}
inference:
  {num_samples: 5, num_predictive: 2, num_calibration: 2, num_calibration_samples: 10, report: false}
"""
SIMULATOR = """
import numpy as np

def shifted(z, rng, shift=0.0):
    return z + shift + 0.1 * rng.normal(size=2)

class Broken:
    def __init__(self, **settings):
        raise KeyError("calibration table")
"""
BASE = ["--config-dir=conf", "experiment=tiny"]

NUMBERS = ["-1", "0", "-0.0", "0.5", "2.5", "nan", "inf", "-inf", "1e400", "-1e400", "1e30", "9" * 20, "9" * 300]
WORDS = [
    "abc",
    "null",
    "true",
    "yes",
    "''",
    "5x",
    "'3'",
    "0x10",
    "1_000",
    "1-12:00:00",
    "PT2H",
    "90s",
    "-",
    "%s",
    "a=b",
]
NESTED = ["[]", "{}", "[1,2]", "[a]", "[null]", "{a:1}", "{1:2}", "[[1],[2]]", "{_target_:nope}", "{a:{b:[1]}}"]
UNREADABLE = [
    "'",
    '"',
    "[1",
    "{a",
    "[1]]",
    "a b",
    "a\tb",
    "a\nb",
    "\x07",
    "\x1b[31m",
    "\\",
    "'a",
    "1,2",
    "range(3)",
    "(",
    ":",
]
LONG = ["x" * 256, "x" * 5000, "ü" * 200, "[" + ",".join("12" * 100) + "]", "a/" * 200 + "b"]
STRANGE = [
    "ünï",
    "日本",
    "🙂",
    "\udcff",
    "..",
    ".",
    "../../x",
    "/proc/nothing/x",
    "~",
    "a/../../b",
    "???",
    "*",
    "$HOME",
    "𝟙",
]
INTERPOLATED = [
    "${oc.env:HOME}",
    "${oc.env:NOT_SET_ANYWHERE}",
    "${nope}",
    "${nope.deeper}",
    "${",
    "${name}",
    "${loop}",
    "$${x}",
]
TARGETS = ["nope", "nope.Nope", "math.pi", "math", "os.getcwd", "torch.nn.Linear", "simulator.Broken", "builtins.int"]
TARGETS += ["''", "1", "null", "[a]", "torch.nn.Nothing", "simulator", "simulator.shifted", "a..b", ".a", "a b"]
VALUES = [NUMBERS, WORDS, NESTED, UNREADABLE, LONG, STRANGE, INTERPOLATED]
WORK = re.compile(r"num_|hidden_dim|batch_size|keep|workers|bins|passes")  # of which a large number is only slow
HYDRA = ["hydra.verbose", "hydra.run.dir", "hydra.job.chdir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name"]
HYDRA += [
    "hydra.output_subdir",
    "hydra.mode",
    "hydra.searchpath",
    "hydra.nothing",
    "hydra.job.nothing",
    "hydra.job_logging",
]
HYDRA += ["hydra/launcher", "hydra/job_logging", "hydra/sweeper", "hydra/nothing", "hydra.launcher.num_parallel"]
VALID = """seed=3 name=other name=a/b device=cpu loop.num_epochs=2 loop.early_stop_patience=null loop.clip_grad_norm=null
network=maf network=nice embedding=mlp optimizer=adamw optimizer/scheduler=cosine loop.batch_size=7 runtime.keep=3
optimizer.lr=1e-4 simulation.workers=1 inference.num_samples=3 runtime.grace=10s runtime.requeue=never +resume=null
runtime.wall_clock_budget=23h30m runtime.checkpoint_before_end=5m runtime.drain=epoch overwrite=true ++seed=4
hydra.job.chdir=false hydra.verbose=false hydra.run.dir=elsewhere/mine hydra.sweep.dir=anything +graph.z.loop.num_epochs=2
+graph.z.network.hidden_dim=3 loop.validation_fraction=0.3 priors.z.mean=[1,2] graph.x.simulator.shift=-1.5
~runtime.compress ~inference.report simulation.max_invalid_fraction=0 simulation.num_simulations=3e1
'name="with space"' name=äöü tracking=[jsonl,tensorboard]""".split()


@dataclasses.dataclass(frozen=True)
class Line:
    """Overrides, and the keys of those that may be mistakes."""

    overrides: list[str]
    keys: list[str]
    exit_codes: tuple[int, ...] = (0, 2)


@cache
def known_keys():
    """Every key of the schema and of the configuration as composed, the groups included."""
    register_bundle()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config"), resolve=False)
    own = OmegaConf.to_container(OmegaConf.create(EXPERIMENT))
    keys = dict.fromkeys([*_of_schema(Config, ""), *_of_composed(composed, ""), *_of_composed(own, "")])
    return [key for key in keys if not key.startswith("resume")]


@cache
def groups():
    """The options of every group."""
    found = {}
    for path in sorted(CONF_DIR.rglob("*.yaml")):
        group = str(path.parent.relative_to(CONF_DIR))
        if group != "." and not group.startswith("hydra"):
            found.setdefault(group, []).append(path.stem)
    return found


def line(seed, number):
    """Return the command line of that number."""
    rng = random.Random(f"{seed}-{number}")
    kinds = [_valid, _value, _value, _value, _misspelt, _prefixed, _target, _group, _hydra, _conflict, _pair, _odd]
    return rng.choice(kinds)(rng)


def _of_schema(cls, prefix):
    for field in dataclasses.fields(cls):
        hint = typing.get_type_hints(cls)[field.name]
        yield f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hint):
            yield from _of_schema(hint, f"{prefix}{field.name}.")
        elif typing.get_origin(hint) is dict and dataclasses.is_dataclass(element := typing.get_args(hint)[1]):
            for name in ("z", "x"):
                yield from _of_schema(element, f"{prefix}{field.name}.{name}.")


def _of_composed(value, prefix):
    for name, item in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{name}"
        yield from _of_composed(item, f"{prefix}{name}.")


def _valid(rng):
    chosen = rng.sample(VALID, rng.choice([0, 1, 1, 2]))
    return Line([o.strip("'") for o in chosen], [_key(o) for o in chosen], (0,) if len(chosen) < 2 else (0, 2))


def _any_value(rng, key):
    value = rng.choice(rng.choice(VALUES))
    if rng.random() < 0.05:
        value = f"${{{key}}}"  # itself
    if WORK.search(key) and value in ("1e30", "9" * 20, "9" * 300):
        value = "1e300"
    return value


def _value(rng):
    key = rng.choice(known_keys())
    return Line([f"{rng.choice(['', '', '+', '++'])}{key}={_any_value(rng, key)}"], [key])


def _misspelt(rng):
    key = rng.choice(known_keys())
    at = rng.randrange(len(key))
    letter = rng.choice("aexz_.0-/ ")
    key = rng.choice([key[:at] + key[at + 1 :], key[:at] + letter + key[at:], key.upper(), f"{key}.{key}", f"{key}s"])
    return Line([f"{rng.choice(['', '', '+', '~'])}{key}={rng.choice(['1', 'abc', 'null'])}"], [key])


def _prefixed(rng):
    key = rng.choice(known_keys())
    value = rng.choice(["", "=1", "=null", "=nope", "="])
    return Line([f"{rng.choice(['~', '~', '~', '+', '++', '+++', '~+', '-', '--', '=', '@'])}{key}{value}"], [key])


def _target(rng):
    blocks = [key.removesuffix("._target_") for key in known_keys() if key.endswith("._target_")]
    key = rng.choice(
        [*blocks, "graph.z.network", "graph.z.embedding", "graph.z.optimizer", "tracking.mine", "priors.x"]
    )
    value = rng.choice(TARGETS)
    override = rng.choice([f"++{key}._target_={value}", f"++{key}={{_target_: {value}}}"])
    return Line([override], [key])


def _group(rng):
    group, options = rng.choice(list(groups().items()))
    option = rng.choice(
        [*options, "nope", "", "null", "[]", f"[{options[0]},nope]", options[0] + "x", "a/b", "../x", "4", "{a:1}"]
    )
    sign = rng.choice(["", "", "", "+", "~", "++"])
    where = rng.choice(["", "", "", "@_global_", "@nope", f"@{group}.x"])
    return Line([f"{sign}{group}{where}={option}"], [group])


def _hydra(rng):
    key = rng.choice(HYDRA)
    value = rng.choice(["1", "0", "true", "framework", "nope", "null", "slurm_local", _any_value(rng, key)])
    return Line([f"{rng.choice(['', '', '+', '++', '~'])}{key}={value}"], [key])


def _conflict(rng):
    group = rng.choice(["network", "embedding", "optimizer", "tracking"])
    key = rng.choice([key for key in known_keys() if "." in key])
    parent = key.rpartition(".")[0]
    pairs = [[f"{group}={a}" for a in rng.sample(groups()[group], 2)], [f"{group}={groups()[group][0]}", f"~{group}"]]
    pairs += [
        [f"~{parent}", f"{key}=1"],
        [f"{key}=1", f"~{parent}"],
        [f"{key}=1", f"{key}=abc"],
        [f"{parent}=1", f"{key}=1"],
    ]
    pairs += [[f"{key}=1", f"{parent}=null"], ["overwrite=true", "resume_allow=[nope]"], [f"+{key}=1", f"+{key}=1"]]
    overrides = rng.choice(pairs)
    return Line(overrides, [_key(o) for o in overrides])


def _pair(rng):
    lines = [_valid(rng), rng.choice([_value, _target, _group])(rng)]
    return Line([o for line in lines for o in line.overrides], lines[1].keys)


def _odd(rng):
    key = rng.choice(known_keys())
    odd = [
        "name=",
        "name=.",
        "name=..",
        "name=a/../../b",
        "name=/proc/x",
        "name=x/..",
        "name=./",
        "name=a//b",
        "name=' '",
    ]
    odd += ["name=simulator.py", "name=.hidden", "name=-x", "name=../work", "name=${seed}", "name=conf", "name=outputs"]
    odd += [
        "hydra.run.dir=.",
        "hydra.run.dir=..",
        "hydra.run.dir=''",
        "hydra.run.dir=simulator.py",
        "hydra.run.dir=conf",
    ]
    odd += [
        key,
        f"{key}=",
        f"{key} = 1",
        "=",
        "==",
        "=1",
        "",
        " ",
        "+",
        "~",
        "++=1",
        f"{key}==1",
        f" {key}=1",
        "seed",
        "-seed=1",
    ]
    odd += [
        "tracking=wandb tracking.wandb.mode=onlin",
        "graph={}",
        "priors={}",
        "~graph.z",
        "~priors.z",
        "~graph",
        "~priors",
    ]
    odd += [
        "graph.x.parents=[]",
        "graph.z.evidence=[]",
        "graph.x.observed=simulator.py",
        "simulation.from_file=observed.npy",
    ]
    odd += [
        "simulation.from_file=nope.npz",
        "~graph.x.observed",
        "~graph.x.simulator",
        "+graph.y={}",
        "+graph.y.parents=[z]",
    ]
    odd += [
        "runtime.wall_clock_budget=1s",
        "device=cuda:99",
        "device=tpu",
        "optimizer.scheduler=null",
        "tracking={}",
        "tracking=null",
    ]
    chosen = rng.choice(odd).split(" tracking")
    overrides = [chosen[0], *(f"tracking{rest}" for rest in chosen[1:])]
    return Line(overrides, [_key(o) for o in overrides], (0, 2, 99))


def _key(override):
    return re.split(r"[=@]", override.strip("'").lstrip("+~"), maxsplit=1)[0]


def prepare(directory):
    """Make a user's own directory there, with an experiment that takes a moment; return it."""
    work = directory / "work"
    (work / "conf/experiment").mkdir(parents=True)
    (work / "conf/experiment/tiny.yaml").write_text(EXPERIMENT)
    (work / "simulator.py").write_text(SIMULATOR)
    np.save(work / "observed.npy", np.zeros(2))
    return work


def tree(directory):
    """Every path below, with a digest of what it holds."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in directory.rglob("*")
        if "__pycache__" not in path.parts
    }


def problems(given, directory):
    """Run the line in `directory`, which is new; return what is wrong with how that ends."""
    work = prepare(directory)
    before = tree(directory)
    result = warm_start("framework.train", *BASE, *given.overrides, cwd=work).wait(60)
    after, output = tree(directory), result.stdout + result.stderr
    shutil.rmtree(directory)
    found = []
    if result.returncode not in given.exit_codes:
        found.append(f"exit code {result.returncode}")
    if "Traceback" in output or "Error:" in result.stderr and "✗" not in result.stderr:
        found.append("a traceback")
    if result.returncode == 2:
        message = result.stderr.strip()
        if not any(named(key, o, message) for key in given.keys for o in given.overrides) and given.keys:
            found.append("the key is not named")
        if len(message.splitlines()) > 3:
            found.append("too many lines")
        if after != before:
            found.append(f"left behind: {sorted(set(after) ^ set(before)) or 'changed'}")
    if result.returncode == 0 and not any(
        '"stop_reason": "finished"' in str(v, errors="replace")
        for k, v in after.items()
        if k.endswith("attempts/001.json")
    ):
        found.append("no finished run")
    return found, result


def named(key, override, message):
    """Tell whether the message names the key, or what was typed."""
    key, message, override = (text.replace("/", ".") for text in (key, message, override))
    parent, _, name = key.rpartition(".")
    above = [".".join(key.split(".")[:depth]) + "=" for depth in range(2, key.count(".") + 1)]
    if key in message or override in message or repr(key)[1:-1] in message or (parent in message and name in message):
        return True
    return any(group in message for group in above) or ("@" in override and "no such key" in message)
