import numpy as np
import pytest

from framework.errors import ConfigError, SimulationError
from framework.simulation import (
    SimulationStore,
    import_simulations,
    imported_shapes,
    run_simulations,
    simulate_block,
)
from tests import toy_simulators as toy
from tests.toy_simulators import SEED, content, run, store_for

# --- the store ---


def test_rows_are_sorted_by_index_and_contiguous(tmp_path):
    store = run(toy.builder(toy.fail_when_negative), tmp_path, 1000)
    arrays = store.load(["x", "theta"])
    assert list(arrays) == ["index", "x", "theta"] and (np.diff(arrays["index"]) > 0).all()
    assert all(array.flags.c_contiguous for array in arrays.values())
    np.testing.assert_array_equal(arrays["x"], arrays["theta"])


def test_only_the_nodes_it_has_a_shape_for_are_stored(tmp_path):
    store = SimulationStore(tmp_path, SEED, {"theta": (2,)})
    run_simulations(toy.builder(toy.first), store, 300, SEED, 1, 0.0)
    assert list(store.load(["theta"])) == ["index", "theta"]


def test_missing_ranges_are_what_no_shard_covers(tmp_path):
    build = toy.builder(toy.first)
    store = store_for(build, tmp_path)
    assert store.missing(100) == [(0, 100)]
    for start, stop in [(10, 20), (20, 30), (50, 60)]:
        store.commit(start, stop, simulate_block(build(), SEED, start, stop))
    assert store.missing(100) == [(0, 10), (30, 50), (60, 100)]
    assert store.missing(55) == [(0, 10), (30, 50)]


def test_shards_that_overlap_count_once(tmp_path):
    build = toy.builder(toy.first)
    store = store_for(build, tmp_path)
    for start, stop in [(0, 20), (10, 30), (12, 15)]:
        store.commit(start, stop, simulate_block(build(), SEED, start, stop))
    assert store.load([])["index"].tolist() == list(range(30)) and store.counts() == (30, 0)


def test_store_is_opened_again_from_its_index(tmp_path):
    store = run(toy.builder(toy.first), tmp_path, 100)
    again = SimulationStore.open(tmp_path)
    assert again.event_shapes == {"theta": (2,), "x": (2,)} and again.seed == SEED and content(again) == content(store)


def test_store_of_another_seed_is_refused(tmp_path):
    SimulationStore(tmp_path, 1, {"x": (2,)})
    with pytest.raises(SimulationError, match="holds simulations of"):
        SimulationStore(tmp_path, 2, {"x": (2,)})


def test_interrupted_phase_ends_with_the_same_simulations(tmp_path):
    build = toy.builder(toy.add_global_noise_and_fail_sometimes)
    expected = content(run(build, tmp_path / "whole", 1000))
    store = run(build, tmp_path / "cut", 1000)
    for shard in store.shards()[1::2]:
        shard.path.unlink()
    (store.directory / ".0-9.npy.123.tmp").write_bytes(b"\x93NUMPY")
    assert content(run(build, tmp_path / "cut", 1000)) == expected
    assert not list(store.directory.glob(".*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[:150] + bytes([data[150] ^ 1]) + data[151:],
        lambda data: data[:-1] + b"x",
    ],
    ids=["shorter", "longer", "empty", "zeros", "one bit", "checksum"],
)
def test_damaged_shard_is_named_and_can_be_deleted(tmp_path, damage):
    build = toy.builder(toy.add_noise, True)
    store = run(build, tmp_path, 1000)
    expected = content(store)
    path = store.shards()[-1].path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SimulationError) as caught:
        content(store)
    assert str(caught.value).startswith(f"{path}: damaged; delete this file")
    path.unlink()
    assert content(run(build, tmp_path, 1000)) == expected


# --- simulations made elsewhere ---


def import_from(arrays, directory):
    path, graph = directory / "mine.npz", toy.theta_to_x(toy.first)
    np.savez(path, **arrays)
    store = SimulationStore(directory / "simulations", SEED, imported_shapes(path, graph))
    return store, import_simulations(path, graph, store)


def test_simulations_are_imported_without_the_invalid_ones(tmp_path):
    theta, x = np.arange(20.0).reshape(10, 2), np.arange(10.0)
    theta[3, 0], x[7] = np.nan, np.inf
    store, num_simulations = import_from({"theta": theta, "x": x, "unused": x}, tmp_path)
    assert num_simulations == 10 and store.counts() == (8, 2) and store.missing(10) == []
    arrays = store.load(["theta", "x"])
    assert arrays["index"].tolist() == [0, 1, 2, 4, 5, 6, 8, 9] and arrays["x"].shape == (8, 1)
    np.testing.assert_array_equal(arrays["theta"], theta[arrays["index"]])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"theta": np.zeros((5, 2))}, "no array 'x', only theta"),
        ({"theta": np.zeros((5, 2)), "x": np.zeros(4)}, "numbers of simulations differ, {'theta': 5, 'x': 4}"),
        ({"theta": np.zeros((5, 3)), "x": np.zeros(5)}, "'theta' has shape (5, 3), expected (num_simulations, 2)"),
    ],
)
def test_unusable_import_is_refused_with_key_and_file(tmp_path, arrays, reason):
    with pytest.raises(ConfigError) as caught:
        import_from(arrays, tmp_path)
    assert str(caught.value).startswith(f"simulation.from_file={tmp_path / 'mine.npz'}: {reason}")


def test_import_from_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        imported_shapes(tmp_path / "missing.npz", toy.theta_to_x(toy.first))
