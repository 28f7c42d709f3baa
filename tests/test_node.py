"""One node's training in a run: what is left when it ends well, is stopped, or fails."""

import numpy as np
import pytest
import torch
from rich.console import Console as Terminal

from framework.checkpoint import CheckpointStore, SaveError
from framework.config.parse import NodeSettings
from framework.config.schema import InferenceConfig, LoopConfig
from framework.estimators import EstimatorSpec
from framework.runtime import Guard, StopReason
from framework.tracking import Console
from framework.training.node import NodeTraining
from tests.toy_training import ADAM, NETWORKS, PRIOR

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


def training(store, guard=None, num_epochs=3, optimizer=ADAM):
    loop = LoopConfig(num_epochs=num_epochs, batch_size=20)
    settings = NodeSettings(SPEC.network, None, optimizer, loop, InferenceConfig())
    facts = {"saved_at": "noon"}
    return NodeTraining(SPEC, settings, 0, torch.device("cpu"), store, guard or Guard(), lambda: facts)


def run(store, *args, trackers=(), **kwargs):
    return training(store, *args, **kwargs).run(SIMULATIONS, trackers, Console(Terminal(quiet=True)))


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


def test_an_error_within_an_update_leaves_none(tmp_path, caplog):
    optimizer = {**ADAM, "_target_": "tests.toy_training.FailingAdam"}
    with pytest.raises(ZeroDivisionError):
        run(CheckpointStore(tmp_path), optimizer=optimizer)
    assert "in the middle of an update" in caplog.text and not any(tmp_path.iterdir())


def test_an_emergency_that_cannot_be_saved_does_not_hide_the_error(tmp_path, caplog):
    root = tmp_path / "checkpoints"
    root.write_text("a file where the directory should be")
    with pytest.raises(ZeroDivisionError):
        run(CheckpointStore(root), trackers=[FailingTracker()])
    assert "No emergency checkpoint" in caplog.text
