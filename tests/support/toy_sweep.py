"""Launching sweeps inside the test's process: the real launcher and composition, a task that only leaves records."""

import os
import re
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import xxhash
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext

from framework.checkpoint.durable_file import DIGEST, json_bytes
from framework.cli import exit_codes
from framework.launcher.names import register_folder_names
from framework.paths import CONF_DIR, register_bundle
from framework.records import write_record
from framework.rundir.attempts import AttemptRecord, Outcome, start_attempt
from framework.runtime import Guard, Requeuer


def task(config):
    """Take the place of a training run; with seed 13 it fails."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    if config.seed == 13:
        print("✗ thirteen is no number of simulations")
        leave_attempt(run_dir, "crashed")
        raise SystemExit(1)
    leave_attempt(run_dir, "finished")


def until_stopped(config):
    """Work until told to stop, save and end; with seed 13 nothing is saved, else the third attempt finishes."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    number = len(list((run_dir / "attempts").glob("*.json"))) + 1
    if number == 3 and config.seed != 13:
        return leave_attempt(run_dir, "finished", num_committed=number)
    with exit_codes(), Guard() as guard:
        (run_dir / "guarded").touch()
        while not (reason := guard.poll()):
            time.sleep(0.01)
        leave_attempt(run_dir, reason.name.lower(), num_committed=number)
        launcher = guard.previous_handler(signal.SIGUSR2)
        Requeuer("auto", run_dir / "attempts/stuck", launcher).after(reason, has_progressed=config.seed != 13)
        raise SystemExit(guard.exit_code(reason))


def hang_once(config):
    """Evaluation, except for the first of a sweep's jobs, which never ends."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    is_first = not list(run_dir.parent.glob("*/began"))
    (run_dir / "began").write_text(str(os.getpid()))
    while is_first:
        time.sleep(60)
    leave_attempt(run_dir, "finished")


def stop(config):
    """Leave what an attempt leaves that was told to stop."""
    leave_attempt(Path(HydraConfig.get().runtime.output_dir), "terminated")
    raise SystemExit(99)


def slow_to_begin(config):
    """Do what a run does before it listens to signals, for longer than it takes."""
    (Path(HydraConfig.get().runtime.output_dir) / "early").touch()
    time.sleep(60)


def leave_attempt(run_dir, stop_reason, overrides=None, num_committed=1, **entries):
    """Write what an attempt leaves: its record, and a checkpoint whose loss is -1."""
    if overrides is None:
        overrides = list(HydraConfig.get().overrides.task)
    record = AttemptRecord(host="elsewhere", pid=1, overrides=overrides, num_epochs={"z": 2}, **entries)
    record.end, record.stop_reason = record.start, stop_reason and Outcome(stop_reason)
    (run_dir / "attempts").mkdir(parents=True, exist_ok=True)
    start_attempt(run_dir, record)
    content = json_bytes({"progress": {"epoch": 2, "step": 20, "best_loss": -1.0}})
    entry = {"size": len(content), DIGEST: xxhash.xxh3_128(content).hexdigest()}
    generation = run_dir / f"checkpoints/{num_committed:08d}"
    (generation / "z").mkdir(parents=True, exist_ok=True)
    (generation / "z/checkpoint.json").write_bytes(content)
    write_record(generation / "manifest.json", {"files": {"z/checkpoint.json": entry}})


@contextmanager
def launcher(name, *overrides, function=task):
    """The launcher of a command line; `launch([["seed=1"], ...], 0)` is what Hydra's sweeper does with it."""
    with _composed(function, f"hydra/launcher={name}", *overrides) as parts:
        yield Plugins.instance().instantiate_launcher(**parts)


def study(*overrides, function=task):
    """Run the trials of a command line, as Hydra does."""
    with _composed(function, "hydra/sweeper=study", *overrides) as parts:
        searched = [override for override in overrides if not override.startswith("hydra")]  # as Hydra does it
        Plugins.instance().instantiate_sweeper(**parts).sweep(searched)


@contextmanager
def _composed(function, *overrides):
    register_bundle()
    register_folder_names()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        plain = [o for o in overrides if o.startswith("hydra") or not re.search(r"[(,]", o)]  # with one value
        config = compose("config", overrides=plain, return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        yield {"hydra_context": context, "task_function": function, "config": config}


def seeds(*numbers):
    return [[f"seed={number}"] for number in numbers]


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
