"""A run directory as a run leaves it, made without running anything."""

from hydra import compose, initialize_config_dir
from omegaconf import flag_override

from framework.checkpoint import CheckpointStore
from framework.paths import CONF_DIR, register_bundle
from framework.resume import plan_attempt
from framework.rundir.attempts import AttemptRecord
from framework.rundir.begin import begin_run
from framework.rundir.directory import RunDirectory
from framework.rundir.run_record import RunRecord
from framework.rundir.timestamps import now

register_bundle()

RECORD = RunRecord({"name": "a"}, code={}, versions={}, attempts=[])


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


def empty_run(path):
    """Return a run that has just begun: its records, and nothing else."""
    directory = RunDirectory(path)
    begin_run(directory, RECORD)
    return directory


def start_attempt(directory, last_sign=0.0, **metadata):
    """Record the start of an attempt."""
    return directory.start_attempt(AttemptRecord(**metadata), last_sign)


def save_checkpoint(directory, progress, config=None, keep=2, **metadata):
    """Commit a checkpoint of nodes with their {node: progress}; `metadata` are those of the run and the moment."""
    files = {f"{node}/checkpoint.json": {"progress": values} for node, values in progress.items()}
    files |= {"config.json": config} if config is not None else {}
    described = directory.info()
    run = {"run_id": described.run_id if described else "unknown", "saved_at": now(), "elapsed_seconds": 1.0}
    run |= {"attempt": max(directory.attempts().numbers, default=0), **metadata}
    return CheckpointStore(directory.checkpoints_dir, keep).commit(files, {"nodes": list(progress), "run": run}).path


def new_run(path, *overrides, epoch=47, batch=0, finished=False):
    """Start a run and leave a checkpoint of one node that has completed `epoch` epochs, and `batch` batches."""
    directory = RunDirectory(path)
    begin(directory, *overrides)
    save_checkpoint(directory, {"z": {"epoch": epoch, "batch": batch, "finished": finished}})
    return directory


def begin(directory, *overrides):
    """Begin an attempt, as `framework.train` does."""
    planned = plan(directory, *overrides)
    open_directory(planned, directory)
    directory.start_attempt(planned.attempt_record("cpu", {"z": 300}, 1))
    return planned


def open_directory(planned, directory):
    """Prepare the directory for an attempt."""
    planned.check_unchanged(directory)
    begin_run(directory, **planned.begin_arguments)
