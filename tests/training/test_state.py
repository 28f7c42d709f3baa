"""The state of a node's training is one, also where several processes hold parts of it."""

import copy

import pytest
import torch

from framework.checkpoint import RandomState
from framework.errors import CheckpointError
from framework.rng import seed_sequence, seeded
from framework.runtime import DistributedContext
from framework.training.data_parallel import BatchSlice
from framework.training.state import TrainState
from tests.support.toy_training import StopAfter, make_trainer


class OneOf(DistributedContext):
    """One of several ranks, with what the others would send it."""

    def __init__(self, rank, size, others=(), shared=None):
        self.rank, self.world_size, self.others, self.shared = rank, size, list(others), shared

    def gather_object(self, value):
        return [] if self.rank else [value, *self.others]

    def broadcast_object(self, value=None):
        assert (value is None) == (self.rank > 0)
        return self.shared if self.rank else value


def trained(stop_at=13):
    """A trainer in the middle of its second epoch."""
    trainer = make_trainer()
    with seeded(seed_sequence(1, "fit")):
        trainer.fit(StopAfter(stop_at), lambda: None, lambda record: None)
    return trainer


def state_of_rank(distributed):
    """The state of a new trainer that is one of several."""
    trainer = make_trainer()
    parts = (trainer.estimator, trainer.optimizer, trainer.scheduler)
    return TrainState(*parts, BatchSlice.of_batch(50, distributed), torch.device("cpu"))


def draws(rng):
    """A number from the generators in this state."""
    with seeded(seed_sequence(0)):
        RandomState().load_state_dict(rng)
        return torch.rand(1).item()


def rng_of(seed):
    with seeded(seed_sequence(seed)):
        return RandomState().state_dict()


def own(seed, loss_sum, weight=1.0):
    """What a rank has of its own."""
    return {"rng": rng_of(seed), "loss_sum": loss_sum, "weight": weight}


def test_it_lists_all_that_must_survive_random_generators_last():
    state = trained().state.state_dict()
    assert list(state) == ["best", "estimator", "optimizer", "scheduler", "progress", "rng"]


def test_it_is_up_to_date_whenever_it_is_asked_for():
    trainer = trained()
    first, seconds = trainer.state.state_dict()["progress"], trainer.progress.train_seconds
    assert first["loss_sum"] > 0 and seconds > 0
    trainer._step(*trainer.data.take(trainer.data.train_rows[:50]))
    again = trainer.state.state_dict()["progress"]
    assert again["loss_sum"] > first["loss_sum"] and again["train_seconds"] > seconds


@pytest.mark.parametrize("entry", ["best", "estimator", "optimizer", "scheduler", "progress", "rng"])
def test_an_entry_that_is_missing_or_unknown_is_an_error(entry):
    state = trained().state.state_dict()
    for states in ({name: value for name, value in state.items() if name != entry}, {**state, "more": {}}):
        with pytest.raises(CheckpointError, match=rf"do not match: (more|{entry})"):
            make_trainer().load_state(states)


def test_best_weights_that_are_others_are_an_error():
    state = trained().state.state_dict()
    with pytest.raises(CheckpointError, match=r"weights do not match the network: more"):
        make_trainer().load_state({**state, "best": {**state["best"], "more": torch.zeros(1)}})


def test_progress_that_is_none_is_an_error():
    state = trained().state.state_dict()
    with pytest.raises(CheckpointError, match=r"progress\.epoch: expected a whole number of at least 0, found 'three'"):
        make_trainer().load_state({**state, "progress": {**state["progress"], "epoch": "three"}})


def test_what_each_rank_has_of_its_own_is_gathered_on_the_first():
    leader, other = state_of_rank(OneOf(0, 3, [own(1, 2.0), own(2, 3.0)])), state_of_rank(OneOf(1, 3))
    assert [rank["loss_sum"] for rank in leader.gather()["ranks"]] == [0.0, 2.0, 3.0]
    assert leader.gather()["ranks"][0]["weight"] == 16 * 3 / 50
    assert other.gather()["ranks"] == [] and "ranks" not in leader.state_dict()
    assert "ranks" not in state_of_rank(DistributedContext()).gather()


@pytest.mark.parametrize("rank", [0, 1])
def test_as_many_ranks_as_before_take_back_what_was_their_own(rank):
    saved = {**copy.deepcopy(trained().state.state_dict()), "ranks": [own(1, 1.5, 1.2), own(2, 2.5, 0.8)]}
    state = state_of_rank(OneOf(rank, 2))
    with seeded(seed_sequence(5)):
        state.load_state_dict(saved)
        assert torch.rand(1).item() == draws(rng_of(1 + rank))
    assert state.progress.loss_sum == (1.5, 2.5)[rank]


def test_of_another_number_of_ranks_the_mean_loss_is_taken_and_the_first_ones_random_numbers():
    trained_state = copy.deepcopy(trained().state.state_dict())
    saved = {**trained_state, "ranks": [own(1, 1.0, 1.2), own(2, 2.0, 0.8)]}
    for distributed in (DistributedContext(), OneOf(0, 3)):
        state = state_of_rank(distributed)
        with seeded(seed_sequence(5)):
            state.load_state_dict(saved)
            assert torch.rand(1).item() == draws(trained_state["rng"])
        assert state.progress.loss_sum.item() == pytest.approx((1.2 * 1.0 + 0.8 * 2.0) / 2)


def test_an_epoch_that_begins_again_has_no_loss_yet():
    saved = {**copy.deepcopy(trained().state.state_dict()), "ranks": [own(1, 1.0), own(2, 2.0)]}
    saved["progress"]["batch"] = 0
    for distributed in (DistributedContext(), OneOf(1, 2)):
        state = state_of_rank(distributed)
        with seeded(seed_sequence(5)):
            state.load_state_dict(saved)
        assert state.progress.loss_sum == 0


def test_the_others_join_with_the_firsts_state_and_random_numbers_of_their_own():
    state = trained().state
    with seeded(seed_sequence(5)):
        expected = torch.rand(1).item()
    for of_ranks, draw in (([], expected), ([own(1, 1.5), own(2, 2.5)], draws(rng_of(2)))):
        joining = state_of_rank(OneOf(1, 2, shared={**state.state_dict(), "ranks": of_ranks}))
        with seeded(seed_sequence(5)):
            joining.join()
            assert torch.rand(1).item() == draw
        assert joining.progress.step == 13
        weights, wanted = (s.parts["estimator"].state_dict() for s in (joining, state))
        assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_the_first_sends_on_what_the_ranks_had_in_the_checkpoint():
    distributed = OneOf(0, 2)
    leader, sent = state_of_rank(distributed), []
    with seeded(seed_sequence(5)):
        leader.load_state_dict({**trained().state.state_dict(), "ranks": [own(1, 1.5), own(2, 2.5)]})
    distributed.broadcast_object = sent.append
    leader.join()
    (states,) = sent
    assert [rank["loss_sum"] for rank in states["ranks"]] == [1.5, 2.5]
    states["estimator"].popitem()[1].fill_(0.5)  # a copy
    assert not any((value == 0.5).all() for value in leader.parts["estimator"].state_dict().values())
