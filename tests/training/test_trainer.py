"""The training loop: what it minimises, when it ends, and that it can be stopped and resumed exactly."""

import numpy as np
import pytest
import torch

from framework.checkpoint import CheckpointStore
from framework.errors import CheckpointError, ConfigError, TrainingError
from framework.rng import seed_sequence, seeded
from framework.runtime import DistributedContext, Guard, Save, StopReason
from framework.training.data import held_out_rows
from framework.training.node_files import dataset_of_best
from tests.support.toy_training import (
    ADAM,
    BOX,
    DROPOUT,
    NETWORKS,
    NoisyEmbedding,
    StopAfter,
    checkpointer,
    make_trainer,
    restore,
    save,
)


def fit(trainer, guard=None, save=lambda: None):
    with seeded(seed_sequence(1, "fit")):
        return trainer.fit(guard or Guard(), save, lambda record: None)


def best_of(trainer):
    return trainer.state.best.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_approaches_the_exact_posterior():
    trainer = make_trainer(num_rows=5_000, num_epochs=60, batch_size=100, early_stop_patience=None)
    fit(trainer)
    trainer.estimator.load_state_dict(best_of(trainer))
    x = torch.tensor([[0.8, -0.4]])
    with seeded(seed_sequence(1, "sample")):
        theta, _ = trainer.estimator.sample({"x": x}, 20_000)
    np.testing.assert_allclose(theta.mean(0), 0.8 * x[0], atol=0.06)  # x / (1 + 0.5²)
    np.testing.assert_allclose(torch.cov(theta.T), 0.2 * np.eye(2), atol=0.03)  # 0.5² / (1 + 0.5²)


@pytest.mark.parametrize("resumed_at", [None, 4])
def test_the_losses_are_mean_negative_log_densities_of_theta(resumed_at, tmp_path):
    settings = {"prior": BOX, "optimizer": {**ADAM, "lr": 0.0}, "num_epochs": 2}  # no step changes the weights
    trainer = make_trainer(**settings)
    if resumed_at:
        fit(trainer, StopAfter(resumed_at))
        generation = save(trainer, tmp_path)
        trainer = make_trainer(**settings)
        restore(trainer, generation)
    fit(trainer)
    data, estimator = trainer.data, trainer.estimator

    def nll(rows):
        theta = estimator.prior.from_unconstrained(data.u[rows])
        return -estimator.log_prob(theta, {"x": data.evidence["x"][rows]}).mean().item()

    for epoch in trainer.progress.history:
        assert epoch["train_loss"] == pytest.approx(nll(data.train_rows), abs=1e-4)
        assert epoch["val_loss"] == epoch["best_loss"] == pytest.approx(nll(data.val_rows), abs=1e-4)
        assert abs(epoch["train_loss"] - epoch["val_loss"]) > 1e-2  # or else one might stand for the other


def test_an_epoch_visits_every_training_row_once_and_no_held_out_row():
    data = make_trainer(num_rows=500).data
    rows = torch.cat(data.batch_rows(seed=0, node="z", epoch=3, batch_size=50))
    assert sorted(rows.tolist()) == data.train_rows.tolist()
    assert not set(rows.tolist()) & set(data.val_rows.tolist())


def test_the_order_is_a_function_of_seed_node_and_epoch():
    data = make_trainer().data

    def order(*key):
        return torch.cat(data.batch_rows(*key, batch_size=50)).tolist()

    assert order(0, "z", 3) == order(0, "z", 3)
    assert len({tuple(order(*key)) for key in [(0, "z", 3), (0, "z", 4), (1, "z", 3), (0, "y", 3)]}) == 4


def test_batches_all_have_the_same_shape():
    data = make_trainer(num_rows=500).data
    assert {len(rows) for rows in data.batch_rows(0, "z", 0, batch_size=64)} == {64}
    assert [len(rows) for rows in data.batch_rows(0, "z", 0, batch_size=1000)] == [450]


def test_it_stops_early_and_keeps_the_best_weights():
    trainer = make_trainer(num_rows=60, num_epochs=2_000, early_stop_patience=4, optimizer={**ADAM, "lr": 1e-2})
    fit(trainer)
    losses = [record["val_loss"] for record in trainer.progress.history]
    assert len(losses) == trainer.progress.best_epoch + 4 < 2_000
    assert min(losses) == losses[trainer.progress.best_epoch - 1] == trainer.progress.best_loss
    trainer.estimator.load_state_dict(best_of(trainer))
    assert trainer.validate() == trainer.progress.best_loss


def test_layers_such_as_dropout_know_whether_they_are_trained_or_measured():
    trainer, modes = make_trainer(embedding=DROPOUT, num_epochs=2), []
    (layer,) = (module for module in trainer.estimator.modules() if isinstance(module, NoisyEmbedding))
    layer.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_grad_enabled())))
    fit(trainer)
    assert modes == 2 * [*[(True, True)] * 9, (False, False)]


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_gradients_are_clipped_to_the_norm_that_is_asked_for_and_to_no_other(max_norm):
    sgd = {"_target_": "torch.optim.SGD", "lr": 1.0, "scheduler": ADAM["scheduler"]}  # a step is the gradient

    def step(**loop):
        trainer = make_trainer(optimizer=sgd, **loop)
        before = torch.cat([p.detach().flatten().clone() for p in trainer.parameters])
        trainer._step(*trainer.data.take(trainer.data.train_rows[:50]))
        return torch.cat([p.detach().flatten() for p in trainer.parameters]) - before

    free, clipped = step(clip_grad_norm=None), step(clip_grad_norm=max_norm)
    torch.testing.assert_close(clipped, free * min(1.0, max_norm / free.norm().item()))


def test_the_schedule_goes_by_the_validation_loss_once_an_epoch():
    trainer, seen = make_trainer(), []
    trainer.scheduler.step = seen.append
    fit(trainer)
    assert seen == [record["val_loss"] for record in trainer.progress.history]
    cosine = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 5}
    trainer = make_trainer(optimizer={**ADAM, "scheduler": cosine})
    fit(trainer)
    rates = [record["lr"] for record in trainer.progress.history]
    np.testing.assert_allclose(rates, 0.5e-3 * (1 + np.cos(np.pi * np.arange(5) / 5)))


def test_the_held_out_rows_may_be_measured_in_parts(monkeypatch):
    trainer = make_trainer()
    whole = trainer.validate()
    monkeypatch.setattr("framework.training.trainer._VALIDATION_ROWS", 7)
    assert trainer.validate() == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("num_bytes", [1, 2000, 2**22])
def test_batches_are_the_data_of_their_rows_however_many_are_gathered_at_once(num_bytes, monkeypatch):
    monkeypatch.setattr("framework.training.data._GATHERED_BYTES", num_bytes)
    data = make_trainer().data
    rows = data.batch_rows(0, "z", 0, 50)
    for (u, evidence), expected in zip(data.batches(rows), map(data.take, rows), strict=True):
        assert torch.equal(u, expected[0]) and torch.equal(evidence["x"], expected[1]["x"])


def test_time_is_that_of_all_attempts_and_only_what_has_ended_is_finished():
    trainer = make_trainer()
    assert trainer.progress.state_dict()["train_seconds"] == 0.0  # to build it, and to compile, is no training
    trainer.progress.train_seconds = 1000.0
    fit(trainer, StopAfter(3))
    trainer.state.state_dict()
    assert 1000 < trainer.progress.train_seconds < 1300 and not trainer.progress.finished
    fit(trainer)
    assert trainer.progress.finished


def test_a_loss_that_is_not_finite_ends_training_with_advice():
    with pytest.raises(TrainingError, match=r"z: the loss became nan.*smaller optimizer\.lr"):
        fit(make_trainer(optimizer={**ADAM, "lr": 1e30}, clip_grad_norm=None))


def test_too_few_simulations_are_refused():
    with pytest.raises(ConfigError, match=r"1 valid simulations leave nothing to train on"):
        held_out_rows(torch.arange(1), 0.1, 0, "z")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stop_at", [0, 1, 9, 13, 30])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(network, stop_at, tmp_path):
    whole = make_trainer(network, embedding=DROPOUT)
    assert fit(whole) is None

    first = make_trainer(network, embedding=DROPOUT)
    with seeded(seed_sequence(1, "fit")):
        assert first.fit(StopAfter(stop_at), lambda: None, lambda record: None) is StopReason.OUT_OF_TIME
        generation = save(first, tmp_path)
    assert first.progress.step == stop_at

    second = make_trainer(network, embedding=DROPOUT)
    with seeded(seed_sequence(2, "another process")):
        restore(second, generation)
        assert same(best_of(second), best_of(first))
        assert second.fit(Guard(), lambda: None, lambda record: None) is None
    assert same(second.estimator.state_dict(), whole.estimator.state_dict())
    assert same(best_of(second), best_of(whole))
    assert second.progress.history == whole.progress.history


def test_a_checkpoint_says_what_it_is_of(tmp_path):
    trainer = make_trainer(num_rows=500)
    fit(trainer, StopAfter(13))
    generation = save(trainer, tmp_path, first_id=1000)
    state = generation.load("z/checkpoint.json")
    assert {key: state["progress"][key] for key in ("epoch", "batch", "step")} == {"epoch": 1, "batch": 4, "step": 13}
    assert state["progress"]["train_seconds"] > 0
    assert state["classes"]["optimizer"] == "torch.optim.adam.Adam"
    own = {path for path in state["classes"].values() if path.startswith("framework.")}
    assert own == {  # a class that moves is not found under its new path in checkpoints of before: see check_classes
        "framework.estimators.estimator.Estimator",
        "framework.training.progress.Progress",
        "framework.checkpoint.random_state.RandomState",
    }
    assert state["rng"].keys() == {"python", "numpy", "torch", "cuda"}
    assert state["run"] == {"saved_at": "noon"}
    ids = generation.load("z/simulations.pth")
    assert sorted(torch.cat([ids["training"], ids["validation"]]).tolist()) == list(range(1000, 1500))
    assert ids["validation"].tolist() == (1000 + trainer.data.val_rows).tolist()


def test_what_other_classes_have_saved_is_refused(tmp_path):
    trainer = make_trainer()
    generation = save(trainer, tmp_path)
    other = make_trainer(optimizer={**ADAM, "_target_": "torch.optim.AdamW"})
    with pytest.raises(CheckpointError, match=r"optimizer: saved by torch.optim.adam.Adam, refused for .*AdamW"):
        restore(other, generation)


def test_with_other_simulations_the_epoch_starts_again(tmp_path, caplog):
    caplog.set_level("INFO")
    trainer = make_trainer()
    fit(trainer, StopAfter(13))
    generation = save(trainer, tmp_path)
    other = make_trainer()
    restore(other, generation, first_id=7)
    assert "z: 450 simulations to train on instead of 450, 50 held out instead of 50" in caplog.text
    assert (other.progress.epoch, other.progress.batch) == (1, 0)
    fit(other)
    assert other.progress.step == 13 + 4 * 9


def test_the_first_weights_that_are_kept_are_those_of_the_first_attempt(tmp_path):
    first = make_trainer()
    generation = save(first, tmp_path)
    other = make_trainer(seed=5)
    with checkpointer(other, tmp_path) as saving:
        saving.restore(generation)
        again = saving.save_last(other.state.gather(), None)
    weights = [g.load("z/init_parameters.pth")["weights"] for g in (generation, again)]
    assert same(*weights) and same(weights[0], first.estimator.state_dict())


def early_stopped(tmp_path, **loop):
    """A training that patience has ended, on few simulations, after its schedule had lowered the learning rate."""
    optimizer = {**ADAM, "lr": 1e-2}
    trainer = make_trainer(num_rows=60, num_epochs=300, early_stop_patience=4, batch_size=20, optimizer=optimizer)
    fit(trainer)
    assert trainer.has_stopped_early() and trainer.optimizer.param_groups[0]["lr"] < 1e-2
    generation = save(trainer, tmp_path)
    more = make_trainer(num_rows=600, batch_size=20, optimizer=optimizer, **loop)
    return trainer, generation, more


def test_more_simulations_train_a_node_on_that_has_stopped_early(tmp_path, caplog):
    caplog.set_level("INFO")
    first, generation, more = early_stopped(tmp_path, num_epochs=300, early_stop_patience=4)
    restore(more, generation)
    reached, loss_before = first.progress.epoch, more.progress.best_loss
    assert not more.is_done() and more.progress.epochs_without_improvement == 0
    assert (more.optimizer.param_groups[0]["lr"], more.scheduler.num_bad_epochs) == (1e-2, 0)
    assert "patience and the learning rate (0.01) start again; best validation loss now" in caplog.text
    fit(more)
    assert more.progress.epoch >= reached + 4 and more.progress.best_loss < loss_before
    assert more.progress.datasets == [
        {"epoch": 0, "training": 54, "validation": 6},
        {"epoch": reached, "training": 540, "validation": 60},
    ]


def test_the_best_weights_before_more_simulations_compete_on_the_new_held_out_rows(tmp_path):
    first, generation, more = early_stopped(tmp_path, num_epochs=300)
    restore(more, generation)
    assert same(best_of(more), best_of(first)) and not same(more.estimator.state_dict(), best_of(first))
    more.estimator.load_state_dict(best_of(more))
    assert more.progress.best_loss == more.validate() != first.progress.best_loss


def test_a_checkpoint_tells_the_simulations_that_its_best_weights_have_seen(tmp_path):
    first, generation, more = early_stopped(tmp_path, num_epochs=300)
    restore(more, generation)
    assert dataset_of_best(save(more, tmp_path / "more"), "z")["training"] == 54
    fit(more)
    assert more.progress.best_epoch > first.progress.epoch
    assert dataset_of_best(save(more, tmp_path / "more"), "z")["training"] == 540


def test_without_an_epoch_left_the_state_stays_that_of_the_simulations_it_has_seen(tmp_path):
    first, generation, more = early_stopped(tmp_path, num_epochs=5)
    restore(more, generation)
    assert more.is_done() and more.progress.best_loss == first.progress.best_loss
    assert more.progress.datasets == [{"epoch": 0, "training": 54, "validation": 6}]


def test_a_checkpoint_from_before_datasets_were_recorded_is_read(tmp_path):
    trainer = make_trainer()
    fit(trainer)
    state = save(trainer, tmp_path).load("z/checkpoint.json")
    del state["progress"]["datasets"]
    generation = CheckpointStore(tmp_path).commit({"z/checkpoint.json": state}, {})
    other = make_trainer()
    restore(other, generation)
    assert other.progress.datasets == trainer.progress.datasets == [{"epoch": 0, "training": 450, "validation": 50}]
    assert dataset_of_best(generation, "z")["training"] == 450


def test_what_was_held_out_stays_so_and_what_was_trained_on_is_never_held_out():
    few = torch.arange(100)
    held_out = held_out_rows(few, 0.1, 0, "z")
    before = {"validation": few[held_out], "training": few[~torch.isin(few, held_out)]}
    assert torch.equal(held_out_rows(few, 0.1, 0, "z", before), held_out)
    grown = held_out_rows(torch.arange(1000), 0.1, 0, "z", before)
    assert len(grown) == 100 and torch.isin(held_out, grown).all()
    assert not torch.isin(before["training"], grown).any()
    assert (grown >= 500).any() and not torch.equal(grown, torch.cat([held_out, torch.arange(100, 190)]))
    more = held_out_rows(few, 0.2, 0, "z", before)  # only then are there none that were never seen
    assert len(more) == 20 and torch.isin(held_out, more).all()


def test_losses_after_a_resume_on_other_data_are_still_those_of_theta(tmp_path):
    trainer = make_trainer()
    fit(trainer, StopAfter(13))
    generation = save(trainer, tmp_path)
    other = make_trainer(seed=5)  # other rows, and so another standardisation until the checkpoint's is there
    restore(other, generation, first_id=7)

    def nll(weights):
        other.estimator.load_state_dict(weights)
        theta = other.estimator.prior.from_unconstrained(other.data.u[other.data.val_rows])
        return -other.estimator.log_prob(theta, {"x": other.data.evidence["x"][other.data.val_rows]}).mean().item()

    now = {name: value.clone() for name, value in other.estimator.state_dict().items()}
    assert same(now, trainer.estimator.state_dict()) and not same(now, best_of(other))
    assert other.validate() == pytest.approx(nll(now), abs=1e-4)
    assert other.progress.best_loss == pytest.approx(nll(best_of(other)), abs=1e-4)


def test_nothing_is_half_done_unless_the_update_itself_fails():
    def break_when(trainer, step):
        class Broken(Guard):
            def poll(self):
                if trainer.progress.step == step:
                    raise ZeroDivisionError

        return Broken()

    trainer = make_trainer()
    with pytest.raises(ZeroDivisionError):
        fit(trainer, break_when(trainer, 3))
    assert trainer.is_between_steps

    def fails():
        raise MemoryError

    trainer.optimizer.step = fails
    with pytest.raises(MemoryError):
        fit(trainer)
    assert not trainer.is_between_steps


def test_saving_between_two_steps_changes_nothing(tmp_path):
    class SaveAlways(Guard):
        def poll(self):
            return Save.NOW

    saves = []
    plain, saving = make_trainer(), make_trainer()
    fit(plain)
    fit(saving, SaveAlways(), lambda: saves.append(saving.progress.step))
    assert saves == list(range(5 * 9))
    assert same(plain.estimator.state_dict(), saving.estimator.state_dict())


class OneOf(DistributedContext):
    """A rank that keeps what it adds to a sum."""

    def __init__(self, rank, size):
        self.rank, self.world_size = rank, size

    def all_reduce_sum(self, number):
        self.number = number
        return number


def test_ranks_share_the_held_out_rows_even_where_these_are_too_few_for_all():
    trainer = make_trainer("nsf", num_rows=20)
    alone, *several = OneOf(0, 1), *(OneOf(rank, 3) for rank in range(3))
    for distributed in (alone, *several):
        trainer.validate(distributed)
    assert len(trainer.data.val_rows) == 2 and several[0].number == 0
    assert sum(distributed.number for distributed in several) == pytest.approx(alone.number)
