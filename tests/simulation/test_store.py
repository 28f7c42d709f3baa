"""Stored and imported simulations: complete and durable; what is damaged is set aside and simulated again."""

import errno
import json
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from framework.errors import ConfigError, ResumeRefusedError, SimulationError, UnreadableError
from framework.records import read_record
from framework.simulation import (
    SimulationStore,
    import_simulations,
    imported_shapes,
    run_simulations,
    simulate_block,
)
from framework.simulation.block import Block
from tests.support import toy_simulators as toy
from tests.support.toy_simulators import SEED, content, run, store_for

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
    with pytest.raises(SimulationError, match="contains simulations of"):
        SimulationStore(tmp_path, 2, {"x": (2,)})


def test_interrupted_phase_ends_with_the_same_simulations(tmp_path):
    build = toy.builder(toy.add_global_noise_and_fail_sometimes)
    expected = content(run(build, tmp_path / "whole", 1000))
    store = run(build, tmp_path / "cut", 1000)
    for shard in store.shards()[1::2]:
        shard.path.unlink()
    (store.directory / ".0-9.npy.0123456789abcdef.tmp").write_bytes(b"\x93NUMPY")
    assert content(run(build, tmp_path / "cut", 1000)) == expected
    assert not list(store.directory.glob(".*"))


DAMAGE = {
    "shorter": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "one bit": lambda data: data[:150] + bytes([data[150] ^ 1]) + data[151:],
    "checksum": lambda data: data[:-1] + b"x",
    "another seed": lambda data: data.replace(b"seed %d" % SEED, b"seed %d" % (SEED + 1)),
    "nested header": lambda data: data[:10] + b"(" * 118 + data[128:],
    "object header": lambda data: data.replace(b"<i8", b"|O8"),
    "a header of 10^18 rows": lambda data: re.sub(
        rb"'shape': \(\d+,\), }" + b" " * 18, b"'shape': (%d,), }" % 10**18, data
    ),
}


def damage_last(store, change):
    path = store.shards()[-1].path
    data = change(path.read_bytes())
    assert data != path.read_bytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_is_set_aside_and_its_simulations_are_run_again(tmp_path, change, caplog):
    build = toy.builder(toy.add_noise, True)
    expected = content(run(build, tmp_path, 1000))
    path = damage_last(SimulationStore.open(tmp_path), change)
    assert content(run(build, tmp_path, 1000)) == expected
    assert path.with_name(f"{path.name}.damaged").exists()
    assert f"{path}: damaged" in caplog.text and "its simulations are run again" in caplog.text


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_reader_reports_a_damaged_shard_and_changes_nothing(tmp_path, change):
    store = run(toy.builder(toy.add_noise, True), tmp_path, 1000)
    path = damage_last(store, change)
    before = sorted(tmp_path.iterdir())
    reader = SimulationStore.open(tmp_path)
    with pytest.raises(SimulationError, match=r"damaged \(.*; \+resume=true runs its simulations again"):
        content(reader)
    with pytest.raises(SimulationError, match="damaged"):
        reader.counts()
    assert reader.missing(1000) == [(reader.shards()[-1].stop, 1000)] and sorted(tmp_path.iterdir()) == before
    assert path.name in str(before)


def as_directory(path):
    path.mkdir()


def as_link(path):
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("make", [as_directory, as_link, os.mkfifo], ids=["directory", "link", "pipe"])
@pytest.mark.parametrize("name", ["shard", "index.json", "imported.json"])
def test_what_is_no_file_is_set_aside_and_comes_again(tmp_path, make, name):
    expected = content(store := import_from(uniform(), tmp_path))
    path = store.shards()[0].path if name == "shard" else store.directory / name
    path.rename(path.with_name("elsewhere"))
    make(path)
    if name == "shard":
        assert SimulationStore.open(store.directory).missing(10) == [(0, 10)]
    again = import_from(uniform(), tmp_path)
    assert content(again) == expected
    assert SimulationStore.open(store.directory).counts() == (10, 0)


def test_files_without_the_name_of_a_shard_are_reported_and_skipped(tmp_path, caplog):
    build = toy.builder(toy.first)
    expected = content(run(build, tmp_path, 300))
    names = ["0-1-2.npy", "5-3.npy", "4-4.npy", "00-5.npy", "x.npy", "-1-5.npy", f"{10**18}-{10**19}.npy"]
    for name in names:
        (tmp_path / name).write_bytes(b"stray")
    assert content(run(build, tmp_path, 300)) == expected
    assert all(f"{tmp_path / name}: ignored" in caplog.text for name in names)


def test_a_shard_under_another_ones_name_does_not_pass_for_it(tmp_path):
    build = toy.builder(toy.fail_when_negative)
    expected = content(run(build, tmp_path, 300))
    first, last = SimulationStore.open(tmp_path).shards()[0], SimulationStore.open(tmp_path).shards()[-1]
    shutil.copy(first.path, tmp_path / f"{first.start}-{last.stop}.npy")  # more rows of its range would be invalid
    assert content(run(build, tmp_path, 300)) == expected


def test_indices_out_of_range_or_order_are_damage(tmp_path):
    store, block = SimulationStore(tmp_path, SEED, {"x": (1,)}), np.zeros((3, 1), np.float32)
    for index in ([0, 1, 3], [1, 0, 2], [0, 0, 1], [-1, 0, 1]):
        store.commit(0, 3, Block(np.array(index), {"x": block}, []))
        assert SimulationStore.open(tmp_path).missing(3) == [(0, 3)]


def test_another_runs_shard_is_refused(tmp_path):
    build = toy.builder(toy.first)
    run(build, tmp_path / "mine", 100)
    for name, seed, shapes in [
        ("seed", SEED + 1, {"theta": (2,), "x": (2,)}),
        ("shape", SEED, {"theta": (2,), "x": (3,)}),
    ]:
        values = {node: np.zeros((5, *shape), np.float32) for node, shape in shapes.items()}
        SimulationStore(tmp_path / name, seed, shapes).commit(95, 100, Block(np.arange(95, 100), values, []))
        path = Path(shutil.copy(tmp_path / name / "95-100.npy", tmp_path / "mine"))
        with pytest.raises(SimulationError, match=r"95-100\.npy: contains simulations of .*remove it"):
            run(build, tmp_path / "mine", 100)
        with pytest.raises(SimulationError, match="contains simulations of"):
            SimulationStore.open(tmp_path / "mine").missing(100)
        path.unlink()


def test_overlapping_shards_that_differ_are_refused(tmp_path):
    build = toy.builder(toy.first)
    run(build, tmp_path, 100)
    store = SimulationStore.open(tmp_path)
    values = {"theta": np.zeros((4, 2), np.float32), "x": np.zeros((4, 2), np.float32)}
    store.commit(50, 54, Block(np.arange(50, 54), values, []))
    with pytest.raises(
        SimulationError, match="have different values for simulations 50 to 54; remove the one that does not"
    ):
        run(build, tmp_path, 100)


def test_a_shard_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch):
    build = toy.builder(toy.first)
    path = run(build, tmp_path, 300).shards()[0].path
    os.utime(path, (0, 0))  # nothing is known of it any more
    read = os.read

    def fail(descriptor, size):
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(UnreadableError, match="cannot be read now"):
        run(build, tmp_path, 300)
    assert path.exists() and not list(tmp_path.glob("*.damaged"))


# --- its index ---


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "5", "null", "[" * 100_000, '{"seed": 3, "event_shapes": {"x": [1e999]}}', "flip"]
)
def test_a_lost_index_is_rebuilt_from_the_shards(tmp_path, text, caplog):
    build = toy.builder(toy.add_noise)
    expected, path = content(run(build, tmp_path, 300)), tmp_path / "index.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace(f'"seed": {SEED}', f'"seed": {SEED + 1}') if text == "flip" else text)
    reader = SimulationStore.open(tmp_path)
    assert content(reader) == expected and reader.seed == SEED and SimulationStore.exists(tmp_path)
    assert path.exists() == (text is not None)  # a reader writes nothing
    assert f"recovered from the simulations: seed {SEED}" in caplog.text
    assert content(run(build, tmp_path, 300)) == expected
    assert read_record(path)["seed"] == SEED


def test_shards_that_disagree_do_not_make_an_index(tmp_path):
    for seed in (1, 2):
        store = SimulationStore(tmp_path / str(seed), seed, {"x": (1,)})
        store.commit(seed, seed + 1, Block(np.array([seed]), {"x": np.zeros((1, 1), np.float32)}, []))
    shutil.copy(tmp_path / "2/2-3.npy", tmp_path / "1")
    (tmp_path / "1/index.json").unlink()
    with pytest.raises(SimulationError, match=r"index\.json: missing; .* disagree: seeds \[1, 2\]"):
        SimulationStore.open(tmp_path / "1")


def test_a_damaged_index_without_any_simulation_is_no_store(tmp_path):
    SimulationStore(tmp_path, 1, {"x": (1,)})
    (tmp_path / "index.json").write_text("")
    assert not SimulationStore.exists(tmp_path)
    assert SimulationStore(tmp_path, 2, {"x": (2,)}).seed == 2


def of_version_02(directory):
    """Have the files as version 0.2 wrote them: without digests, and shards without their seed."""
    for name in ("index.json", "imported.json"):
        if (directory / name).exists():
            content = json.loads((directory / name).read_text())
            (directory / name).write_text(json.dumps({k: v for k, v in content.items() if k != "xxh3_128"}))
    for path in directory.glob("*.npy"):
        data = re.sub(rb"seed .*\n\Z", b"", path.read_bytes())
        path.write_bytes(data + b"crc32 %08x\n" % zlib.crc32(data))


def test_a_store_of_version_02_continues(tmp_path):
    build = toy.builder(toy.add_noise)
    expected = content(run(build, tmp_path / "whole", 300))
    run(build, tmp_path / "half", 200)
    of_version_02(tmp_path / "half")
    assert content(run(build, tmp_path / "half", 300)) == expected
    assert read_record(tmp_path / "half/index.json")["seed"] == SEED


def test_the_lost_index_of_version_02_is_not_guessed(tmp_path):
    run(toy.builder(toy.first), tmp_path, 100)
    of_version_02(tmp_path)
    (tmp_path / "index.json").write_text("")
    with pytest.raises(SimulationError, match="do not contain their seed; restore it, or start another run"):
        SimulationStore.open(tmp_path)


def test_all_that_a_store_writes_is_durable(tmp_path, monkeypatch):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    run(toy.builder(toy.first), tmp_path / "run/simulations", 100)
    inside = {path.stat().st_ino for path in (tmp_path / "run").rglob("*")}
    assert inside | {(tmp_path / "run").stat().st_ino, tmp_path.stat().st_ino} <= synced


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
        "outside priors.theta: 2, such as row 4: theta[1]=-8.25, expected -1 to 1)"
    )


def test_too_many_outside_the_prior_are_refused_before_any_is_stored(tmp_path):
    arrays = uniform()
    arrays["theta"] *= 10
    with pytest.raises(
        SimulationError, match=r"max_invalid_fraction=0.5: 10 of 10 .*outside priors.theta: \d+, such as row 0: theta"
    ):
        import_from(arrays, tmp_path, max_invalid_fraction=0.5)
    assert not list((tmp_path / "simulations").glob("*.npy"))
    assert import_from(uniform(), tmp_path, max_invalid_fraction=0.5).counts() == (10, 0)


@pytest.mark.parametrize(("asked", "taken", "told"), [(4, 4, "4 of the 10"), (10, 10, None), (30, 10, "all 10")])
def test_as_many_are_taken_as_were_asked_for_and_there_are(tmp_path, caplog, asked, taken, told):
    caplog.set_level("INFO")
    store = import_from(uniform(), tmp_path, asked)
    assert store.counts() == (taken, 0)
    expected = (
        [f"importing {told} simulations in {tmp_path / 'mine.npz'} (simulation.num_simulations={asked})"]
        if told
        else []
    )
    assert [record.message for record in caplog.records] == expected


def test_more_are_taken_of_the_same_file_and_of_no_other(tmp_path):
    before = content(import_from(uniform(), tmp_path, 4))
    longer = uniform(20)
    with pytest.raises(ResumeRefusedError, match=r"mine\.npz: has changed since 4 simulations were imported from it"):
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
def test_an_import_of_an_earlier_version_continues_with_the_file_or_without(tmp_path, damage):
    store = import_from(uniform(), tmp_path, 10)
    if damage is None:
        (store.directory / "imported.json").unlink()
    else:
        (store.directory / "imported.json").write_text(damage)
    assert import_from(uniform(), tmp_path, 30).counts() == (10, 0)
    (store.directory / "imported.json").unlink()
    (tmp_path / "mine.npz").unlink()
    import_simulations(tmp_path / "mine.npz", toy.theta_to_x(toy.first), store, 30)


@pytest.mark.parametrize("damage", [None, "", "[]", '{"num_rows": 4, "digest": "of another", "xxh3_128": "0"}'])
def test_where_the_origin_is_lost_more_is_only_taken_of_a_file_with_the_same_simulations(tmp_path, damage):
    store = import_from(uniform(), tmp_path, 4)
    path = store.directory / "imported.json"
    path.unlink() if damage is None else path.write_text(damage)
    other = uniform()
    other["x"][3] += 1
    with pytest.raises(ResumeRefusedError, match="has changed since 4 simulations were imported from it"):
        import_from(other, tmp_path, 6)
    assert import_from(uniform(), tmp_path, 6).counts() == (6, 0)
    assert read_record(path)["num_rows"] == 10


def test_a_damaged_shard_is_imported_again(tmp_path):
    expected = content(store := import_from(uniform(), tmp_path))
    damage_last(store, DAMAGE["one bit"])
    assert content(import_from(uniform(), tmp_path)) == expected


def test_an_import_of_version_02_continues(tmp_path):
    store = import_from(uniform(), tmp_path, 4)
    of_version_02(store.directory)
    assert import_from(uniform(), tmp_path, 10).counts() == (10, 0)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"theta": np.zeros((5, 2))}, "no array 'x', only theta"),
        ({"theta": np.zeros((5, 2)), "x": np.zeros(4)}, "arrays have different numbers of rows, {'theta': 5, 'x': 4}"),
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
