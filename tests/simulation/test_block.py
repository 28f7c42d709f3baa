"""One block of simulations: how simulators are called, and what happens to draws that fail."""

import numpy as np
import pytest
import torch

from framework.errors import SimulationError
from framework.graph import Graph, Node
from framework.priors import Uniform
from framework.simulation import (
    infer_shapes,
    simulate_block,
)
from framework.simulation.conditional import simulate_conditional
from tests.support import toy_simulators as toy
from tests.support.toy_simulators import SEED


def values(simulator, *options, stop=300):
    return simulate_block(toy.theta_to_x(simulator, *options), SEED, 0, stop).values


# --- what the simulator gets, and what is made of its answer ---


def test_unbatched_and_batched_simulators_see_the_same_parents():
    one, many = values(toy.first), values(toy.first, True)
    assert one["theta"].shape == (300, 2) and one["theta"].dtype == np.float32
    np.testing.assert_array_equal(one["x"], one["theta"])
    np.testing.assert_array_equal(many["x"], one["theta"])


def test_torch_simulators_get_tensors():
    def check_type(theta):
        assert isinstance(theta, torch.Tensor)
        return theta.double().requires_grad_()

    drawn = values(check_type, True, "torch")
    np.testing.assert_array_equal(drawn["x"], drawn["theta"])


@pytest.mark.parametrize("batched", [False, True])
def test_a_number_becomes_a_vector_of_one(batched):
    assert values(toy.sum_of, batched)["x"].shape == (300, 1)


@pytest.mark.parametrize("batched", [False, True])
def test_changing_an_argument_in_place_leaves_it_in_the_store_as_it_was(batched):
    drawn = values(toy.add_one_in_place, batched)
    np.testing.assert_array_equal(drawn["x"], drawn["theta"] + 1)


def test_simulator_may_return_the_same_array_each_time():
    drawn = values(toy.ReusesItsBuffer())
    np.testing.assert_array_equal(drawn["x"], drawn["theta"])


def test_callers_generators_and_threads_are_left_alone():
    torch.manual_seed(0)
    before, num_threads = torch.random.get_rng_state(), torch.get_num_threads()
    values(toy.add_global_noise)
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == num_threads


def test_simulators_run_in_one_thread_as_another_number_may_round_sums_differently():
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert (values(lambda theta: [torch.get_num_threads()], stop=3)["x"] == 1).all()
    finally:
        torch.set_num_threads(num_threads)


def test_chain_with_a_covariate_and_two_children_of_one_node():
    time = np.array([[10.0]], np.float32)
    nodes = [
        Node("z", evidence=("x", "y"), prior=Uniform(low=-1, high=1)),
        Node("time", observed=time),
        Node("mid", ("z", "time"), simulator=toy.add),
        Node("x", ("mid", "z"), simulator=toy.add, observed=time),
        Node("y", ("mid",), simulator=toy.first, batched=True, observed=time),
    ]
    drawn = simulate_block(Graph(nodes), SEED, 0, 300).values
    np.testing.assert_array_equal(drawn["mid"], drawn["z"] + 10)
    np.testing.assert_array_equal(drawn["x"], drawn["mid"] + drawn["z"])
    np.testing.assert_array_equal(drawn["y"], drawn["mid"])


# --- invalid simulations ---


@pytest.mark.parametrize(
    ("simulator", "batched", "backend", "message"),
    [
        (toy.fail_when_negative, False, "numpy", "ValueError: theta is negative"),
        (toy.nan_when_negative, True, "torch", "NaN, infinite, or too large"),
        (toy.overflow_when_negative, True, "numpy", "NaN, infinite, or too large"),
    ],
)
def test_invalid_rows_are_left_out_with_a_reason(simulator, batched, backend, message):
    block = simulate_block(toy.theta_to_x(simulator, batched, backend), SEED, 0, 300)
    invalid = [failure.index for failure in block.failures]
    assert 0 < len(invalid) < 300 and sorted([*invalid, *block.index]) == list(range(300))
    assert {failure.node for failure in block.failures} == {"x"}
    assert all(failure.message.startswith(message) for failure in block.failures)
    assert np.isfinite(block.values["x"]).all() and len(block.values["theta"]) == len(block.index)


def test_batch_that_fails_is_done_row_by_row():
    block = simulate_block(toy.theta_to_x(toy.one_by_one_only, True), SEED, 0, 300)
    assert len(block.index) == 300 and len(np.unique(block.values["x"])) == 600


def test_children_are_not_called_where_a_parent_is_invalid():
    def refuse_nan(x):
        assert np.isfinite(x).all()
        return x

    nodes = [
        Node("z", evidence=("y",), prior=Uniform(low=[-1, -1], high=[1, 1])),
        Node("x", ("z",), simulator=toy.nan_when_negative, batched=True, backend="torch"),
        Node("y", ("x",), simulator=refuse_nan, batched=True, observed=np.zeros((1, 2), np.float32)),
    ]
    block = simulate_block(Graph(nodes), SEED, 0, 300)
    assert 0 < len(block.index) < 300 and {failure.node for failure in block.failures} == {"x"}


@pytest.mark.parametrize("simulator", [toy.ragged, toy.without_batch_axis])
def test_values_of_a_wrong_shape_are_an_error_not_an_invalid_draw(simulator):
    graph = toy.theta_to_x(simulator, simulator is toy.without_batch_axis)
    with pytest.raises(SimulationError, match=r"graph\.x\.simulator: "):
        simulate_block(graph, SEED, 0, 256)


# --- the probe ---


def test_shapes_are_learnt_from_the_first_valid_simulation():
    assert infer_shapes(toy.theta_to_x(toy.fail_when_negative), SEED) == {"theta": (2,), "x": (2,)}
    assert infer_shapes(toy.theta_to_x(toy.sum_of, True), SEED) == {"theta": (2,), "x": (1,)}


@pytest.mark.parametrize(
    ("simulator", "reason"), [(toy.always_fail, "ArithmeticError: no solution"), (toy.return_nothing, "returned None")]
)
def test_simulator_that_never_works_is_named_with_its_last_error(simulator, reason):
    with pytest.raises(SimulationError, match=rf"graph\.x: the first 10 simulations are all invalid.*{reason}"):
        infer_shapes(toy.theta_to_x(simulator), SEED)


# --- given values ---


@pytest.mark.parametrize("batched", [False, True])
def test_nodes_may_be_given(batched):
    theta = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    block = simulate_conditional(toy.theta_to_x(toy.first, batched), {"theta": theta}, seed=0)
    assert block.index.tolist() == list(range(300))
    np.testing.assert_array_equal(block.values["x"], theta)
