"""The simulation phase: the same simulations whatever the shards, workers and interruptions."""

import itertools
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import SimulationError
from framework.graph import Graph, Node
from framework.priors import Uniform
from framework.runtime import Guard
from framework.simulation import simulate_block
from framework.simulation.shard import cut, simulate_shard
from framework.simulation.work import Work
from tests.support import toy_simulators as toy
from tests.support.toy_simulators import SEED, content, run, store_for

# --- the same numbers, however they are made ---


SIMULATORS = [
    (toy.add_noise,),
    (toy.add_noise, True),
    (toy.add_noise_torch, False, "torch"),
    (toy.add_noise_torch, True, "torch"),
    (toy.add_global_noise_and_fail_sometimes,),
    (toy.one_by_one_only, True),
    (toy.nan_when_negative, True, "torch"),
]


@pytest.mark.parametrize("options", SIMULATORS)
def test_shards_of_any_size_hold_the_same_simulations(tmp_path, options):
    build = toy.builder(*options)
    expected = content(run(build, tmp_path / "whole", 1000))
    store = store_for(build, tmp_path / "parts")
    for start, stop in [(700, 1000), (0, 5), (5, 256), (256, 513), (513, 700)]:
        store.commit(start, stop, simulate_block(build(), SEED, start, stop))
    assert content(store) == expected


@pytest.mark.parametrize("options", SIMULATORS)
def test_a_shorter_run_is_the_beginning_of_a_longer_one(tmp_path, options):
    build = toy.builder(*options)
    short, long = run(build, tmp_path / "short", 1000), run(build, tmp_path / "long", 2000)
    assert content(short) == content(long, 1000)
    assert content(run(build, tmp_path / "short", 2000)) == content(long)


def test_batched_node_after_a_failing_one_does_not_depend_on_the_range():
    nodes = [
        Node("z", evidence=("y",), prior=Uniform(low=[-1, -1], high=[1, 1])),
        Node("x", ("z",), simulator=toy.fail_when_negative),
        Node("y", ("z",), simulator=toy.add_noise, batched=True, observed=np.zeros((1, 2), np.float32)),
    ]
    whole, part = (simulate_block(Graph(nodes), SEED, 0, stop) for stop in (256, 100))
    np.testing.assert_array_equal(part.values["y"], whole.values["y"][: len(part.index)])


@pytest.mark.parametrize("options", SIMULATORS[:4])
def test_seeds_and_nodes_have_streams_of_their_own(options):
    graph = toy.theta_to_x(*options)
    first, second = simulate_block(graph, 0, 0, 256), simulate_block(graph, 1, 0, 256)
    assert not np.isin(first.values["theta"], second.values["theta"]).any()
    noise = first.values["x"] - first.values["theta"]
    assert len(np.unique(noise)) > 0.98 * noise.size  # some are rounded to the same


@pytest.mark.parametrize(
    "options", [(toy.add_noise_torch, True, "torch"), (toy.add_global_noise_and_fail_sometimes,)], ids=["torch", "any"]
)
def test_two_workers_give_what_one_gives(tmp_path, options):
    build = toy.builder(*options)
    one, two = (run(build, tmp_path / str(workers), 2000, workers) for workers in (1, 2))
    assert content(one) == content(two)


@pytest.mark.campaign
def test_eight_workers_give_what_one_gives(tmp_path):
    build = toy.builder(toy.add_global_noise_and_fail_sometimes)
    one, eight = (run(build, tmp_path / str(workers), 2000, workers) for workers in (1, 8))
    assert content(one) == content(eight)


# --- what a signal to all processes of a job has ended is no fault of the simulator ---


@pytest.mark.parametrize("batched", [False, True])
def test_what_fails_while_a_signal_comes_is_drawn_again(tmp_path, batched):
    with Guard() as guard:
        simulator = toy.StartsPrograms({2, 4})
        store = run(toy.builder(simulator, batched), tmp_path / "a", 300, num_signals=lambda: guard.num_signals)
    assert guard.num_signals == 2 and store.counts() == (300, 0)
    assert content(store) == content(run(toy.builder(toy.add_noise, batched), tmp_path / "b", 300))


def test_any_number_of_signals_may_come(tmp_path):
    build = toy.builder(toy.StartsPrograms(range(2, 300, 30)))
    store = store_for(build, tmp_path)
    with Guard() as guard:
        report = simulate_shard(build(), store, 0, 300, lambda: False, lambda: guard.num_signals)
    assert guard.num_signals >= 10 and (report.stop, report.num_invalid) == (300, 0)


def test_a_simulator_that_fails_each_time_is_not_drawn_for_ever(tmp_path):
    signals = itertools.count()
    store = run(toy.builder(toy.fail_when_negative), tmp_path, 20, num_signals=lambda: next(signals))
    assert store.counts() == run(toy.builder(toy.fail_when_negative), tmp_path / "quiet", 20).counts()


@pytest.mark.parametrize(("simulator", "batched"), [(toy.fail_when_negative, False), (toy.one_by_one_only, True)])
def test_what_fails_before_a_stop_is_left_for_the_next_attempt(tmp_path, simulator, batched):
    build = toy.builder(simulator, batched)
    store = store_for(build, tmp_path)
    report = simulate_shard(build(), store, 0, 512, should_stop=lambda: True)
    assert report.stop == sum(store.counts()) < 256 and store.counts()[1] == 0


def test_a_batch_that_was_drawn_row_by_row_shows_whatever_comes_after_it():
    nodes = [
        Node("z", evidence=("y",), prior=Uniform(low=[-1, -1], high=[1, 1])),
        Node("x", ("z",), simulator=toy.one_by_one_only, batched=True),
        Node("y", ("x",), simulator=toy.add_noise, batched=True, observed=np.zeros((1, 2), np.float32)),
    ]
    assert simulate_block(Graph(nodes), SEED, 0, 5).has_failed


def test_what_has_not_failed_before_a_stop_is_kept(tmp_path):
    build = toy.builder(toy.add_noise, True)
    report = simulate_shard(build(), store_for(build, tmp_path), 0, 512, should_stop=lambda: True)
    assert (report.start, report.stop, report.num_invalid) == (0, 256, 0)
    assert store_for(build, tmp_path).counts() == (256, 0)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.campaign)])
def test_counts_of_invalid_simulations_are_the_same_after_any_number_of_interruptions(tmp_path, workers):
    def stop(num_done, num_invalid):
        if num_done > len(begun) * 40:
            begun.append(num_done)
            raise StopError

    begun, build = [], toy.builder(toy.add_global_noise_and_fail_sometimes)
    whole = run(build, tmp_path / "whole", 300)
    for _ in range(20):
        with suppress(StopError):
            run(build, tmp_path / "cut", 300, workers, on_progress=stop)
            break
    cut = run(build, tmp_path / "cut", 300)
    assert len(begun) > 2 and cut.counts() == whole.counts() and cut.counts()[1] > 10
    assert cut.invalid(300).tolist() == whole.invalid(300).tolist()
    assert content(cut) == content(whole)


# --- too many invalid simulations ---


def test_too_many_invalid_simulations_end_the_phase_with_their_reasons(tmp_path):
    with pytest.raises(SimulationError) as caught:
        run(toy.builder(toy.fail_when_negative), tmp_path, 1000, max_invalid_fraction=0.1)
    message = str(caught.value)
    assert message.startswith("simulation.max_invalid_fraction=0.1: ") and "of 1000 simulations" in message
    assert "node x: ValueError: theta is negative" in message
    with pytest.raises(SimulationError, match="max_invalid_fraction"):
        run(toy.builder(toy.fail_when_negative), tmp_path, 1000, max_invalid_fraction=0.1)


def test_the_error_is_the_same_whatever_the_interruptions_workers_and_shards(tmp_path):
    def error(name, workers=1, **more):
        with pytest.raises(SimulationError) as caught:
            run(build, tmp_path / name, 1000, workers, max_invalid_fraction=0.05, **more)
        return str(caught.value)

    build = toy.builder(toy.add_global_noise_and_fail_sometimes)
    expected = error("whole")
    assert "51 of the first " in expected and expected.count("did not converge") == 3
    first, *_ = store_for(build, tmp_path / "whole").invalid(1000)
    assert f"First failures: simulation {first}, node x: RuntimeError: did not converge" in expected
    assert error("whole") == expected  # of an earlier attempt
    store = store_for(build, tmp_path / "ranges")
    for start, stop in [(600, 1000), (0, 5)]:
        store.commit(start, stop, simulate_block(build(), SEED, start, stop))
    assert error("ranges") == expected
    assert error("workers", workers=2) == expected


def test_counts_tell_valid_from_invalid(tmp_path):
    store = run(toy.builder(toy.fail_when_negative), tmp_path, 1000)
    num_valid, num_invalid = store.counts()
    assert num_valid + num_invalid == 1000 and num_invalid > 300
    assert num_valid == len(store.load(["x"])["x"])


# --- progress ---


def test_progress_reports_what_is_on_disk(tmp_path):
    reports = []
    store = run(toy.builder(toy.fail_when_negative), tmp_path, 1000, on_progress=lambda *counts: reports.append(counts))
    assert reports[-1] == (1000, store.counts()[1]) and reports == sorted(reports)


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt])
def test_progress_may_end_the_phase_and_costs_nothing(tmp_path, error):
    def stop(num_done, num_invalid):
        raise error

    build = toy.builder(toy.add_noise)
    with pytest.raises(error):
        run(build, tmp_path, 1000, on_progress=stop)
    store = store_for(build, tmp_path)
    assert sum(store.counts()) > 0
    assert content(run(build, tmp_path, 1000)) == content(run(build, tmp_path / "whole", 1000))


def test_pieces_end_where_batches_do():
    assert [cut(0, 1000, size, 256) for size in (1, 300, 512, 900, 1000)] == [256, 256, 512, 768, 1000]
    assert [cut(100, 1000, size, 256) for size in (1, 300, 900)] == [256, 256, 1000]
    assert cut(3, 1000, 7, 1) == 10


@given(
    ranges=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 3000)), min_size=1, max_size=4),
    unit=st.sampled_from([1, 256]),
    num_workers=st.integers(1, 5),
)
def test_work_is_handed_out_once_and_in_order(ranges, unit, num_workers):
    at, missing = 0, []
    for gap, length in ranges:
        missing.append((at + gap, at + gap + length))
        at += gap + length
    work, taken = Work(missing, unit, 20, num_workers), []
    while task := work.take():
        taken += range(*task)
    assert taken == [index for start, stop in missing for index in range(start, stop)]
