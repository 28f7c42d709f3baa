import numpy as np
import pytest

from framework.errors import ConfigError, ResumeRefusedError, SimulationError
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
    assert store.missing(40) == [(30, 40)] and store.counts(25) == (25, 0)


def test_values_of_another_shape_are_refused_and_not_stretched_to_fit(tmp_path):
    store = SimulationStore(tmp_path, SEED, {"theta": (2,), "x": (2,)})
    block = simulate_block(toy.theta_to_x(toy.sum_of), SEED, 0, 10)
    with pytest.raises(SimulationError, match=r"graph\.x: simulations 0 to 10 have shape \(1,\), earlier ones \(2,\)"):
        store.commit(0, 10, block)
    assert store.counts() == (0, 0)


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


def import_from(arrays, directory, num_simulations=10, max_invalid_fraction=1.0):
    path, graph = directory / "mine.npz", toy.theta_to_x(toy.first)
    np.savez(path, **arrays)
    store = SimulationStore(directory / "simulations", SEED, imported_shapes(path, graph))
    import_simulations(path, graph, store, num_simulations, max_invalid_fraction)
    return store


def uniform(num_simulations=10, seed=0):
    theta = np.random.default_rng(seed).uniform(-1, 1, (num_simulations, 2)).astype(np.float32)
    return {"theta": theta, "x": np.arange(1.0 * num_simulations)}


def test_simulations_are_imported_without_the_invalid_ones(tmp_path):
    arrays = uniform()
    arrays["theta"][3, 0], arrays["x"][7] = np.nan, np.inf
    store = import_from(arrays | {"unused": arrays["x"]}, tmp_path)
    assert store.counts() == (8, 2) and store.missing(10) == []
    found = store.load(["theta", "x"])
    assert found["index"].tolist() == [0, 1, 2, 4, 5, 6, 8, 9] and found["x"].shape == (8, 1)
    np.testing.assert_array_equal(found["theta"], arrays["theta"][found["index"]])


def test_what_lies_outside_the_prior_is_left_out_and_told(tmp_path, caplog):
    arrays = uniform()
    arrays["theta"][4], arrays["theta"][6, 1], arrays["theta"][8, 0] = (0.5, -8.25), 1.5, np.nan
    store = import_from(arrays, tmp_path)
    assert store.load(["x"])["index"].tolist() == [0, 1, 2, 3, 5, 7, 9] and store.counts() == (7, 3)
    (record,) = caplog.records
    assert record.message == (
        f"⚠ 3 of 10 simulations in {tmp_path / 'mine.npz'} are invalid (NaN or infinite: 1; "
        "outside priors.theta: 2, as row 4: theta[1]=-8.25, expected -1 to 1)"
    )


def test_too_many_outside_the_prior_are_refused_before_any_is_stored(tmp_path):
    arrays = uniform()
    arrays["theta"] *= 10
    with pytest.raises(
        SimulationError, match=r"max_invalid_fraction=0.5: 10 of 10 .*outside priors.theta: \d+, as row 0: theta"
    ):
        import_from(arrays, tmp_path, max_invalid_fraction=0.5)
    assert not list((tmp_path / "simulations").glob("*.npy"))
    assert import_from(uniform(), tmp_path, max_invalid_fraction=0.5).counts() == (10, 0)


@pytest.mark.parametrize(("asked", "taken", "told"), [(4, 4, "4 of the 10"), (10, 10, None), (30, 10, "all 10")])
def test_as_many_are_taken_as_were_asked_for_and_there_are(tmp_path, caplog, asked, taken, told):
    caplog.set_level("INFO")
    store = import_from(uniform(), tmp_path, asked)
    assert store.counts() == (taken, 0)
    expected = [f"{told} simulations in {tmp_path / 'mine.npz'} (simulation.num_simulations={asked})"] if told else []
    assert [record.message for record in caplog.records] == expected


def test_more_are_taken_of_the_same_file_and_of_no_other(tmp_path):
    before = content(import_from(uniform(), tmp_path, 4))
    longer = uniform(20)
    with pytest.raises(ResumeRefusedError, match=r"mine\.npz: has changed since 4 simulations were taken of it"):
        import_from(longer, tmp_path, 6)
    store = import_from(longer, tmp_path, 4)  # it is not even looked at
    assert content(store) == before
    store = import_from(uniform(), tmp_path, 30)
    assert content(store, 4) == before and store.counts() == (10, 0)
    (tmp_path / "mine.npz").unlink()
    import_simulations(tmp_path / "mine.npz", toy.theta_to_x(toy.first), store, 30)
    assert store.counts() == (10, 0)


def test_an_import_that_was_interrupted_is_completed(tmp_path, monkeypatch):
    monkeypatch.setattr("framework.simulation.importer.SHARD_BYTES", 3 * 20)
    expected = content(store := import_from(uniform(), tmp_path))
    store.shards()[1].path.unlink()
    assert content(import_from(uniform(), tmp_path)) == expected


@pytest.mark.parametrize("damage", [None, "", "[]", '{"num_rows": "many"}'])
def test_an_import_of_an_earlier_version_goes_on_with_the_file_or_without(tmp_path, damage):
    store = import_from(uniform(), tmp_path, 10)
    if damage is None:
        (store.directory / "imported.json").unlink()
    else:
        (store.directory / "imported.json").write_text(damage)
    assert import_from(uniform(), tmp_path, 30).counts() == (10, 0)
    (store.directory / "imported.json").unlink()
    (tmp_path / "mine.npz").unlink()
    import_simulations(tmp_path / "mine.npz", toy.theta_to_x(toy.first), store, 30)


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
