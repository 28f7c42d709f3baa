"""Command lines with mistakes, and without: chosen at random, each a function of its seed and number alone.

The keys are those of the schema and of what it composes to, the groups are those of `conf`.
"""

# ruff: noqa: SIM905
import dataclasses
import json
import random
import re
import typing
from functools import cache

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from framework.config.schema import Config
from framework.paths import CONF_DIR, register_bundle
from tests.support.command import warm_start

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
import torch

def shifted(z, rng, shift=0.0):
    return z + shift + 0.1 * rng.normal(size=2)

class Lossless(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()

class Broken:
    def __init__(self, **settings):
        raise KeyError("calibration table")
"""
BASE = ["--config-dir=conf", "experiment=tiny"]

NUMBERS = f"-1 0 -0.0 0.5 2.5 nan inf -inf 1e400 -1e400 1e30 {'9' * 20} {'9' * 300}".split()
WORDS = "abc null true yes '' 5x '3' 0x10 1_000 1-12:00:00 PT2H 90s - %s a=b".split()
NESTED = "[] {} [1,2] [a] [null] {a:1} {1:2} [[1],[2]] {_target_:nope} {a:{b:[1]}}".split()
UNREADABLE = ["a b", "a\tb", "a\nb", *"' \" [1 {a [1]] \x07 \x1b[31m \\ 'a 1,2 range(3) ( :".split()]
LONG = ["x" * 256, "x" * 5000, "ü" * 200, "[" + ",".join("12" * 100) + "]", "a/" * 200 + "b"]
STRANGE = "ünï 日本 🙂 \udcff .. . ../../x /proc/nothing/x ~ a/../../b ??? * $HOME 𝟙".split()
INTERPOLATED = (
    "${oc.env:HOME} ${oc.env:NOT_SET_ANYWHERE} ${nope} ${nope.deeper} ${ ${name} ${loop} $${x} ${seed}".split()
)
VALUES = [NUMBERS, WORDS, NESTED, UNREADABLE, LONG, STRANGE, INTERPOLATED]
TARGETS = """nope nope.Nope math.pi math os.getcwd torch.nn.Linear simulator.Broken builtins.int '' 1 null [a]
torch.nn.Nothing simulator simulator.shifted a..b .a""".split()
OPTIONS = "nope null [] a/b ../x 4 {a:1}".split()
HYDRA = """hydra.verbose hydra.run.dir hydra.job.chdir hydra.sweep.dir hydra.sweep.subdir hydra.job.name hydra.mode
hydra.output_subdir hydra.searchpath hydra.nothing hydra.job.nothing hydra.job_logging hydra/launcher
hydra/job_logging hydra/sweeper hydra/nothing hydra.launcher.num_parallel""".split()
VALID = """seed=3
name=other name=a/b name='äöü' device=cpu overwrite=true ++seed=4 +resume=null network=maf network=nice
embedding=mlp optimizer=adamw optimizer/scheduler=cosine optimizer.lr=1e-4 loop.num_epochs=2
loop.clip_grad_norm=null loop.early_stop_patience=null loop.batch_size=7
loop.batch_size=${simulation.num_simulations} loop.validation_fraction=0.3 runtime.keep=3 runtime.grace=10s
runtime.requeue=never ~runtime.compress runtime.wall_clock_budget=23h30m runtime.checkpoint_before_end=5m
runtime.drain=epoch simulation.workers=1 simulation.max_invalid_fraction=0 simulation.num_simulations=3e1
inference.num_samples=3 priors.z.mean=[1,2] graph.x.simulator.shift=-1.5 tracking=[jsonl,tensorboard]
+graph.z.loop.num_epochs=2 hydra.job.chdir=false +graph.z.network.hidden_dim=3 hydra.verbose=false
hydra.run.dir=elsewhere/mine hydra.sweep.dir=anything""".split()
PLACES = """name= name=. name=.. name=a/../../b name=/proc/x name=x/.. name=./ name=a//b name=simulator.py name=.hidden
name=-x name=../work name=${seed} name=conf name=outputs hydra.run.dir=. hydra.run.dir=.. hydra.run.dir=''
hydra.run.dir=simulator.py hydra.run.dir=conf""".split()
WHOLE = """graph={} priors={} ~graph.z ~priors.z ~graph ~priors graph.x.parents=[] graph.z.evidence=[] +graph.y={}
graph.x.observed=simulator.py simulation.from_file=observed.npy simulation.from_file=nope.npz ~graph.x.observed
~graph.x.simulator +graph.y.parents=[z] runtime.wall_clock_budget=1s device=cuda:99 device=tpu tracking={}
optimizer.scheduler=null tracking=null = == =1 + ~ ++=1 seed -seed=1""".split()
WORK = re.compile(r"num_|hidden_dim|batch_size|keep|workers|bins|passes")  # of which a large number is only slow


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
    return Line(chosen, [key_of(o) for o in chosen], (0,) if len(chosen) < 2 else (0, 2))


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
    return Line([f"{rng.choice(['~', '~', '~', '+', '++', '+++', '~+', '--', '=', '@'])}{key}{value}"], [key])


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
    option = rng.choice([*options, *OPTIONS, "", f"[{options[0]},nope]", f"{options[0]}x"])
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
    return Line(overrides, [key_of(o) for o in overrides])


def _pair(rng):
    lines = [_valid(rng), rng.choice([_value, _target, _group])(rng)]
    return Line([o for line in lines for o in line.overrides], lines[1].keys)


def _odd(rng):
    key = rng.choice(known_keys())
    forms = [[form.format(key)] for form in ("{}", "{}=", "{} = 1", "{}==1", " {}=1", "{}=a b", "name=' '", "", " ")]
    lists = [[[place] for place in PLACES], [[text] for text in WHOLE], forms]
    overrides = rng.choice([*lists, [["tracking=wandb", "tracking.wandb.mode=onlin"]]])
    overrides = rng.choice(overrides)
    return Line(overrides, [key_of(o) for o in overrides], (0, 2, 99))


def key_of(override):
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
    result = warm_start("framework.train", *BASE, *given.overrides, cwd=work).wait(120)
    after, output = tree(directory), result.stdout + result.stderr
    found = []
    if result.returncode not in given.exit_codes:
        found.append(f"exit code {result.returncode}")
    if "Traceback" in output:
        found.append("a traceback")
    if result.returncode == 2:
        if given.keys and not any(named(key, o, result.stderr) for key in given.keys for o in given.overrides):
            found.append("the key is not named")
        if len(result.stderr.strip().splitlines()) > 3:
            found.append("too many lines")
        if after != before:
            found.append(f"left behind: {sorted(set(after) ^ set(before)) or 'changed files'}")
    if result.returncode == 0 and not _has_finished_run(after):
        found.append("no finished run")
    return [*found, result.stdout[-500:], result.stderr[-1000:]] if found else []


def _has_finished_run(files):
    attempts = [content for path, content in files.items() if path.endswith("attempts/001.json")]
    return len(attempts) == 1 and json.loads(attempts[0])["stop_reason"] == "finished"


def named(key, override, message):
    """Tell whether the message names the key, or what was typed."""
    key, message, override = (text.replace("/", ".") for text in (key, message, override))
    key = key.removesuffix("._target_")
    name = key.rpartition(".")[2]
    above = [".".join(key.split(".")[:depth]) for depth in range(2, key.count(".") + 1)]
    names = [key, override, repr(key)[1:-1]]
    if any(text in message for text in names) or (key.partition(".")[0] in message and name in message):
        return True
    is_moved = "@" in override and "no such key" in message  # to another package, whose key is named
    return is_moved or any(re.search(rf"{re.escape(group)}[.=:]", message) for group in above)
