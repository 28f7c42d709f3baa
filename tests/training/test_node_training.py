"""Training one node of a run: what is on disk after it finishes, is stopped, or fails."""

import dataclasses
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console as Terminal

from framework.checkpoint import CheckpointStore, SaveError, StateError
from framework.config.parse import NodeSettings
from framework.config.schema import InferenceConfig, LoopConfig
from framework.estimators import EstimatorSpec
from framework.runtime import Guard, Save, StopReason
from framework.tracking import Console
from framework.training.node_training import NodeTraining
from framework.training.trainer import Trainer
from tests.support.toy_training import ADAM, NETWORKS, PRIOR, make_trainer

RNG = np.random.default_rng(0)
THETA = RNG.normal(size=(200, 2)).astype(np.float32)
SIMULATIONS = {"index": np.arange(200), "z": THETA, "x": THETA + RNG.normal(size=(200, 2)).astype(np.float32)}
SPEC = EstimatorSpec("z", NETWORKS["gaussian"], None, 2, {"x": (2,)}, {"z": PRIOR})


class AtStep(Guard):
    """Does something at the n-th poll."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action, self.num = step, action, 0

    def poll(self):
        self.num += 1
        return self.action() if self.num == self.step else None


def training(store, guard=None, num_epochs=3, optimizer=ADAM, own_keys=(), **loop):
    loop = LoopConfig(num_epochs=num_epochs, batch_size=20, **loop)
    settings = NodeSettings(SPEC.network, None, optimizer, loop, InferenceConfig(), frozenset(own_keys))
    metadata = {"saved_at": "noon"}
    return NodeTraining(SPEC, settings, 0, torch.device("cpu"), store, guard or Guard(), lambda: metadata)


def run(store, *args, trackers=(), simulations=SIMULATIONS, **kwargs):
    """Train as a run does; return the trainer, and why it stopped early."""
    node = training(store, *args, **kwargs)
    return node.run(simulations, trackers, Console(Terminal(quiet=True)), store.latest())[:2]


class FailingTracker:
    """A user's tracker with a bug."""

    def cut_back(self, node, step):
        pass

    def log(self, record):
        raise ZeroDivisionError

    def close(self):
        pass


def test_it_ends_with_its_state_in_the_newest_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    trainer, reason = run(store)
    assert reason is None
    newest = store.latest()
    assert newest.manifest["nodes"] == ["z"] and newest.manifest["run"] == {"saved_at": "noon"}
    assert newest.load("z/checkpoint.json")["progress"]["step"] == trainer.progress.step == 27


def test_it_continues_from_the_checkpoint_that_it_is_given_and_returns_the_newest(tmp_path):
    store, console = CheckpointStore(tmp_path), Console(Terminal(quiet=True))
    stopped = training(store, AtStep(13, lambda: StopReason.TERMINATED))
    other = store.commit({"y/model.pth": {}}, {"nodes": ["y"]})
    _, reason, generation = stopped.run(SIMULATIONS, (), console, other)
    assert reason is StopReason.TERMINATED and generation.manifest["nodes"] == ["y", "z"]
    trainer, reason, newest = training(store).run(SIMULATIONS, (), console, generation)
    assert (trainer.progress.step, reason, newest.path.name) == (27, None, "00000003")
    assert newest.manifest["nodes"] == ["y", "z"] and newest.load("z/checkpoint.json")["progress"]["step"] == 27
    assert training(store).run(SIMULATIONS, (), console, newest)[2] is newest


PATIENT = {"num_epochs": 300, "early_stop_patience": 2, "optimizer": {**ADAM, "lr": 0.05}}


def test_it_says_that_patience_has_ended_the_training(tmp_path, caplog):
    caplog.set_level("INFO")
    trainer, _ = run(CheckpointStore(tmp_path), **PATIENT)
    epoch, best = trainer.progress.epoch, trainer.progress.best_loss
    assert f"z: stopped early at epoch {epoch} (patience 2), best validation loss {best:.4f} at epoch" in caplog.text
    caplog.clear()
    run(CheckpointStore(tmp_path / "other"))
    assert "z: best validation loss" in caplog.text and "stopped early" not in caplog.text


@pytest.mark.parametrize("own_keys, key", [((), "loop."), (("loop.early_stop_patience",), "graph.z.loop.")])
def test_more_epochs_for_a_node_that_has_stopped_early_say_which_key_trains_it_on(own_keys, key, tmp_path, caplog):
    caplog.set_level("INFO")
    store = CheckpointStore(tmp_path)
    epoch = run(store, **PATIENT)[0].progress.epoch
    again, _ = run(store, own_keys=own_keys, **{**PATIENT, "num_epochs": 400})
    key = f"{key}early_stop_patience"
    expected = f"z: stopped early at epoch {epoch} (patience 2); to continue training: {key}=4 'resume_allow=[{key}]'"
    assert again.progress.epoch == epoch and expected in caplog.text
    assert run(store, **{**PATIENT, "early_stop_patience": 4})[0].progress.epoch > epoch


def test_a_node_that_has_had_its_epochs_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    store = CheckpointStore(tmp_path)
    run(store)
    run(store)
    assert "z: trained for 3 epochs; to continue training, raise loop.num_epochs" in caplog.text


def test_interrupted_on_more_simulations_it_ends_bit_for_bit_where_it_would_have_ended(tmp_path):
    few = {name: values[:80] for name, values in SIMULATIONS.items()}
    for name in ("whole", "interrupted"):
        run(CheckpointStore(tmp_path / name), simulations=few, **PATIENT)
    whole, _ = run(CheckpointStore(tmp_path / "whole"), **PATIENT)
    stores = [CheckpointStore(tmp_path / "interrupted") for _ in range(3)]
    for store, polls in zip(stores, (1, 13), strict=False):
        assert run(store, AtStep(polls, lambda: StopReason.TERMINATED), **PATIENT)[1] is StopReason.TERMINATED
    resumed, _ = run(stores[2], **PATIENT)
    assert resumed.progress.history == whole.progress.history
    assert resumed.progress.datasets == whole.progress.datasets and len(whole.progress.datasets) == 2
    assert all(
        torch.equal(value, whole.state.best.state_dict()[name])
        for name, value in resumed.state.best.state_dict().items()
    )


def test_it_says_what_it_resumes(tmp_path, caplog):
    caplog.set_level("INFO")
    store = CheckpointStore(tmp_path)
    assert run(store, AtStep(13, lambda: StopReason.TERMINATED))[1] is StopReason.TERMINATED
    assert f"⚠ Terminated at epoch 2/3 — model + weights saved to {tmp_path}/latest/z/" in caplog.text
    run(store)
    assert "↻ Resuming z from epoch 2/3 (last saved noon)" in caplog.text


def test_a_stop_that_cannot_be_saved_says_what_is_not_saved(tmp_path):
    root = tmp_path / "checkpoints"
    root.write_text("a file where the directory should be")
    with pytest.raises(SaveError, match=r"^Terminated at epoch 2/3, which is not saved — .*there is none"):
        run(CheckpointStore(root), AtStep(13, lambda: StopReason.TERMINATED))


def test_an_unexpected_error_leaves_an_emergency_checkpoint_that_is_not_resumed_from(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    run(store, num_epochs=1)
    with pytest.raises(ZeroDivisionError):
        run(store, num_epochs=3, trackers=[FailingTracker()])
    assert store.latest().load("z/checkpoint.json")["progress"]["step"] == 9
    emergency = store.named("emergency-00000002").load("z/checkpoint.json")["progress"]
    assert (emergency["epoch"], emergency["batch"], emergency["step"], emergency["loss_sum"]) == (2, 0, 18, 0.0)
    assert f"Emergency checkpoint of epoch 2/3, step 18: {tmp_path}/emergency-00000002" in caplog.text


def test_an_emergency_waits_for_the_save_under_way_and_is_not_taken_for_a_training_that_is_stuck(tmp_path):
    class Watched(AtStep):
        is_saving = False

        @contextmanager
        def saving(self):
            self.is_saving = True
            yield
            self.is_saving = False

    class Slow(CheckpointStore):
        num_at_once = most_at_once = 0

        def commit(self, files, metadata, emergency=False):
            self.num_at_once += 1
            self.most_at_once = max(self.most_at_once, self.num_at_once)
            self.was_watched = guard.is_saving
            time.sleep(0.0 if emergency else 0.2)
            generation = super().commit(files, metadata, emergency)
            self.num_at_once -= 1
            return generation

    store, guard = Slow(tmp_path), Watched(9, lambda: Save.NOW)  # before the last step of the epoch
    with pytest.raises(ZeroDivisionError):
        run(store, guard, trackers=[FailingTracker()])
    assert (tmp_path / "00000001").is_dir() and (tmp_path / "emergency-00000002").is_dir()
    assert store.most_at_once == 1 and store.was_watched


def test_an_optimizer_that_cannot_be_saved_is_refused_after_its_first_step(tmp_path, caplog):
    optimizer = {**ADAM, "_target_": "tests.support.toy_training.DatedAdam"}
    store, guard = CheckpointStore(tmp_path), AtStep(2, lambda: pytest.fail("a second step"))
    with pytest.raises(
        StateError, match=r"z/optimizer\.pth: optimizer\.state\.0\.when is a datetime.*isoformat"
    ) as caught:
        run(store, guard, optimizer=optimizer)
    assert caught.value.exit_code == 2
    assert not any(tmp_path.iterdir()) and "training continues" not in caplog.text


def test_what_is_saved_is_looked_at_once_in_an_attempt(tmp_path):
    trainer, steps = make_trainer(num_epochs=2), []
    trainer.fit(Guard(), lambda: None, lambda record: None, lambda: steps.append(trainer.progress.step))
    assert steps == [1]


def test_facts_of_the_run_that_cannot_be_saved_are_refused_by_name(tmp_path):
    node = dataclasses.replace(training(CheckpointStore(tmp_path)), metadata=lambda: {"saved_at": Path("noon")})
    with pytest.raises(StateError, match=r"run\.saved_at is a pathlib\.PosixPath"):
        node.run(SIMULATIONS, (), Console(Terminal(quiet=True)), None)
    assert not any(tmp_path.iterdir())


def test_an_error_within_an_update_leaves_none(tmp_path, caplog):
    optimizer = {**ADAM, "_target_": "tests.support.toy_training.FailingAdam"}
    with pytest.raises(ZeroDivisionError):
        run(CheckpointStore(tmp_path), optimizer=optimizer)
    assert "interrupted a parameter update" in caplog.text and not any(tmp_path.iterdir())


def test_an_error_at_an_epochs_end_leaves_no_epoch_that_is_half_closed(tmp_path, caplog):
    schedule = {"_target_": "tests.support.toy_training.FailingSchedule"}
    with pytest.raises(ZeroDivisionError):
        run(CheckpointStore(tmp_path), optimizer={**ADAM, "scheduler": schedule})
    assert "interrupted a parameter update" in caplog.text and not any(tmp_path.iterdir())


def test_an_error_while_validating_keeps_all_steps_and_the_end_of_the_epoch_is_done_again(tmp_path, monkeypatch):
    whole, _ = run(CheckpointStore(tmp_path / "whole"))
    store = CheckpointStore(tmp_path / "failed")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Trainer, "validate", lambda *args: 1 / 0)
        run(store)
    emergency = store.named("emergency-00000001")
    progress = emergency.load("z/checkpoint.json")["progress"]
    assert (progress["epoch"], progress["batch"], progress["step"], progress["history"]) == (0, 9, 9, [])
    emergency.path.rename(emergency.path.with_name("00000001"))
    resumed, _ = run(store)
    assert resumed.progress.history == whole.progress.history


def test_an_emergency_that_cannot_be_saved_does_not_hide_the_error(tmp_path, caplog):
    root = tmp_path / "checkpoints"
    root.write_text("a file where the directory should be")
    with pytest.raises(ZeroDivisionError):
        run(CheckpointStore(root), trackers=[FailingTracker()])
    assert "No emergency checkpoint" in caplog.text
