"""A checkpoint restored under other settings: the new settings apply, and what was learned is kept."""

import copy

import pytest
import torch

from framework.checkpoint import class_paths
from framework.config.schema import LoopConfig
from framework.training.adapt import adapted
from tests.support.toy_training import ADAM, make_trainer

COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 10}


def optimizer(scheduler=None, **changes):
    return {**ADAM, **changes, "scheduler": {**ADAM["scheduler"], **(scheduler or {})}}


def trained(block=ADAM, steps=3):
    """A trainer that has taken some steps, and what it was configured with."""
    trainer = make_trainer(optimizer=block)
    for _ in range(steps):
        trainer._step(*trainer.data.take(trainer.data.train_rows[:50]))
    return trainer


def restored(old_trainer, new_block, **loop):
    """A new trainer with other settings, in the state of the old one."""
    states, classes = copy.deepcopy(old_trainer.state.state_dict()), class_paths(old_trainer.state.parts)
    new = make_trainer(optimizer=new_block, **loop)
    new.load_state(adapted(states, classes, new, dict(old_trainer.optimizer_block), old_trainer.loop.batch_size))
    return new


def group(trainer):
    return trainer.optimizer.param_groups[0]


def test_settings_that_have_not_changed_leave_the_state_alone():
    trainer = trained()
    states, classes = trainer.state.state_dict(), class_paths(trainer.state.parts)
    assert adapted(states, classes, trainer, ADAM, trainer.loop.batch_size) is states


def test_another_learning_rate_takes_effect_and_the_moments_are_kept():
    old = trained()
    new = restored(old, optimizer(lr=3e-4, betas=(0.8, 0.99)))
    assert (group(new)["lr"], group(new)["betas"]) == (3e-4, (0.8, 0.99))
    for before, after in zip(*(t.optimizer.state_dict()["state"].values() for t in (old, new)), strict=True):
        assert torch.equal(before["exp_avg"], after["exp_avg"])


def test_what_the_schedule_has_made_of_the_learning_rate_is_kept_as_a_factor():
    old = trained()
    for loss in (1.0, 2.0, 3.0):
        old.scheduler.step(loss)
    assert group(old)["lr"] == pytest.approx(1e-4)  # a tenth, after two epochs without a better one
    new = restored(old, optimizer(lr=3e-3, scheduler={"factor": 0.5}))
    assert group(new)["lr"] == pytest.approx(3e-4)
    assert new.scheduler.get_last_lr() == [group(new)["lr"]]
    assert (new.scheduler.factor, new.scheduler.best) == (0.5, 1.0)


def test_a_schedule_of_another_length_continues_from_where_it_is():
    old = trained(optimizer(scheduler=None) | {"scheduler": COSINE})
    for _ in range(4):
        old.scheduler.step()
    new = restored(old, {**ADAM, "scheduler": {**COSINE, "T_max": 20}})
    assert (new.scheduler.T_max, new.scheduler.last_epoch, group(new)["lr"]) == (20, 4, group(old)["lr"])


def test_a_schedule_of_another_class_starts_again():
    old = trained()
    for loss in (1.0, 2.0, 3.0):
        old.scheduler.step(loss)
    new = restored(old, {**ADAM, "scheduler": COSINE})
    assert (new.scheduler.last_epoch, group(new)["lr"]) == (0, 1e-3)
    new.optimizer.step(), new.scheduler.step()
    assert group(new)["lr"] < 1e-3


def test_other_batches_begin_the_epoch_under_way_again():
    old = trained()
    old.progress.batch, old.progress.epoch, old.progress.step = 3, 2, 23
    assert old.progress.loss_sum > 0
    progress = restored(old, ADAM, batch_size=25).progress
    assert (progress.epoch, progress.batch, progress.step, progress.loss_sum) == (2, 0, 23, 0.0)


def test_more_epochs_leave_the_epoch_under_way_alone():
    old = trained()
    old.progress.batch = 3
    assert restored(old, ADAM, num_epochs=LoopConfig().num_epochs).progress.batch == 3
