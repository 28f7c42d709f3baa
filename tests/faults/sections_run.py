"""Work on the run directory itself: first start, resume, a copy of another run, overwrite, records of attempts."""

import copy
import functools

import numpy as np

from framework.checkpoint import CheckpointStore
from framework.resume import plan_attempt
from framework.rundir.attempts import Outcome
from framework.rundir.directory import RunDirectory
from framework.rundir.run_config import read_config
from framework.simulation import SimulationStore, simulate_block
from tests.faults.section import Section
from tests.support import toy_simulators as toy
from tests.support.toy_run import composed as compose
from tests.support.toy_run import open_directory, save_checkpoint

_SETTINGS = ("simulation.num_simulations=40", "loop.num_epochs=9")
_RAISED = "loop.num_epochs=12"

composed = functools.cache(compose)


def _start(path, *overrides):
    """Do what `framework.train` does before the first simulation; return the directory, the plan and the attempt."""
    directory = RunDirectory(path)
    config, hydra = composed(*_SETTINGS, *overrides)
    planned = plan_attempt(directory, copy.deepcopy(config), hydra)
    open_directory(planned, directory)
    attempt = directory.start_attempt(planned.attempt_record("cpu", {"z": planned.config.loop.num_epochs}, 1))
    return directory, planned, attempt


def _trained(path, *overrides):
    """Start, and leave simulations and two checkpoints, by an attempt that was lost."""
    directory, planned, attempt = _start(path, *overrides)
    directory.write_arrays(observed={"x": np.ones((1, 2))}, truth={})
    store = SimulationStore(directory.simulations_dir, toy.SEED, {"theta": (2,), "x": (2,)})
    store.commit(0, 40, simulate_block(toy.theta_to_x(toy.add_noise), toy.SEED, 0, 40))
    attempt.begin("training")
    for epoch in (1, 2):
        progress = {"epoch": epoch, "step": epoch, "batch": 0, "finished": False, "best_loss": 1.0}
        save_checkpoint(directory, {"z": progress}, planned.record.config)


def _epoch_of(path):
    newest = CheckpointStore(path / "checkpoints").latest()
    return newest.load("z/checkpoint.json")["progress"]["epoch"] if newest else None


def _config_of(directory):
    return directory.record().config["loop"]["num_epochs"]


def _run(attempt, acknowledge):
    for phase in ("starting", "simulating", "training", "sampling and reporting"):
        attempt.begin(phase)
    attempt.end(Outcome.FINISHED)
    acknowledge("ended")


# --- first start ---


def _begin(root, acknowledge):
    directory, _, attempt = _start(root / "run")
    acknowledge("started")
    directory.write_arrays(observed={"x": np.ones((1, 2))}, truth={"z": np.zeros((1, 2))})
    acknowledge("arrays")
    _run(attempt, acknowledge)


def _begins_again(root, acknowledged, is_cut):
    """There is nothing to lose yet: the same command starts it."""
    before = RunDirectory(root / "run")
    if "arrays" in acknowledged:
        np.testing.assert_array_equal(before.read_arrays("observed")["x"], np.ones((1, 2)))
    if "ended" in acknowledged and not is_cut:
        assert [record.stop_reason for record in before.attempts().records] == [Outcome.FINISHED]
    directory, _, attempt = _start(root / "run")
    directory.write_arrays(observed={"x": np.ones((1, 2))}, truth={})
    assert read_config(directory.config_path)["loop"]["num_epochs"] == 9 == _config_of(directory)
    assert len(directory.attempts().numbers) >= 1 + bool(acknowledged)
    attempt.end(Outcome.FINISHED)


# --- resume ---


def _a_run(root):
    _trained(root / "run")


def _resume(root, acknowledge):
    _, planned, attempt = _start(root / "run", "+resume=true", _RAISED)
    acknowledge("started")
    _run(attempt, acknowledge)
    return [change.path for change in planned.changes]


def _resumes_again(root, acknowledged, is_cut):
    directory = RunDirectory(root / "run")
    assert _epoch_of(root / "run") == 2
    assert _config_of(directory) in ([12] if acknowledged else [9, 12])
    run_id = CheckpointStore(directory.checkpoints_dir).generations()[-1].manifest["run"]["run_id"]
    directory, planned, attempt = _start(root / "run", "+resume=true", _RAISED)
    assert "from epoch 2/" in planned.title, planned.title
    assert directory.info().run_id == run_id and _config_of(directory) == 12
    assert read_config(directory.config_path)["loop"]["num_epochs"] == 9, "config.yaml is of the first start"
    assert len(directory.attempts().numbers) >= 2 + bool(acknowledged)
    assert Outcome.LOST in [record.stop_reason for record in directory.attempts().records]
    attempt.end(Outcome.FINISHED)


# --- a copy of another run ---


def _another(root):
    _trained(root / "first")


def _copy(root, acknowledge):
    _, planned, attempt = _start(root / "run", f"resume_from={root / 'first'}")
    acknowledge("copied")
    attempt.end(Outcome.FINISHED)
    return planned.config.loop.num_epochs


def _copies_again(root, acknowledged, is_cut):
    assert _epoch_of(root / "first") == 2
    if acknowledged:
        assert _epoch_of(root / "run") == 2
    directory, _, attempt = _start(root / "run", f"resume_from={root / 'first'}")
    assert _epoch_of(root / "run") == 2 and _config_of(directory) == 9
    assert SimulationStore.open(directory.simulations_dir).missing(40) == []
    assert directory.info().run_id != RunDirectory(root / "first").info().run_id
    assert not list((root / "run").glob("*.tmp"))
    attempt.end(Outcome.FINISHED)


# --- overwrite ---


def _overwrite(root, acknowledge):
    _, _, attempt = _start(root / "run", "overwrite=true")
    acknowledge("begun")
    attempt.end(Outcome.FINISHED)


def _old_run_is_kept(root, acknowledged, is_cut):
    (kept,) = (path for path in root.iterdir() if (path / "checkpoints").is_dir())
    assert _epoch_of(kept) == 2
    if acknowledged:
        assert kept.name == "run.old-1"
    directory, _, attempt = _start(root / "run", "overwrite=true")
    assert _epoch_of(root / "run.old-1") == 2
    assert not directory.holds_work() and _config_of(directory) == 9
    attempt.end(Outcome.FINISHED)


SECTIONS = [
    Section("first start", lambda root: None, _begin, _begins_again),
    Section("resume", _a_run, _resume, _resumes_again),
    Section("copy of another run", _another, _copy, _copies_again),
    Section("overwrite", _a_run, _overwrite, _old_run_is_kept),
]
