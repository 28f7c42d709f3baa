"""A run directory as a run leaves it, made without running anything."""

import json

from hydra import compose, initialize_config_dir
from omegaconf import flag_override

from framework.paths import CONF_DIR, register_bundle
from framework.resume import plan_attempt
from framework.rundir.directory import RunDirectory

register_bundle()


def composed(*overrides):
    """Return what `framework.train` is given, and Hydra's part of it."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    hydra = config.hydra
    with flag_override(config, ["struct", "readonly"], False):
        del config["hydra"]
    return config, hydra


def plan(directory, *overrides):
    return plan_attempt(directory, *composed(*overrides))


def new_run(path, *overrides, epoch=47, batch=0, finished=False):
    """Start a run and leave a checkpoint of one node that has completed `epoch` epochs, and `batch` batches."""
    directory = RunDirectory(path)
    begin(directory, *overrides)
    node = directory.checkpoints_dir / "00000001/z"
    node.mkdir(parents=True)
    progress = {"epoch": epoch, "batch": batch, "finished": finished}
    (node / "checkpoint.json").write_text(json.dumps({"progress": progress}))
    (node.parent / "manifest.json").write_text("{}")
    return directory


def begin(directory, *overrides):
    """Begin an attempt, as `framework.train` does."""
    planned = plan(directory, *overrides)
    planned.open(directory)
    directory.start_attempt(planned.facts("cpu"))
    return planned
