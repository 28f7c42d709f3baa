"""Work on what training needs: checkpoints, simulations, and simulations from a file."""

import numpy as np
import torch

from framework.checkpoint import CheckpointStore
from framework.simulation import SimulationStore, import_simulations, imported_shapes, simulate_block
from tests.faults.section import Section
from tests.support import toy_simulators as toy
from tests.support.toy_simulators import SEED

# --- checkpoints ---

FACTS = {"nodes": ["z"], "run": {"run_id": "a", "saved_at": "2026-01-01T00:00:00.000+00:00"}}
_CONSTANT = {"config.json": {"name": "run", "loop": {"num_epochs": 3}}}


def files(value):
    """Two files that change with every save, one that does not, and one that changes with every other."""
    return {
        "z/model.pth": {"w": torch.full((300,), float(value))},
        "z/model_best.pth": {"w": torch.full((300,), float(value // 2))},
        "z/init_parameters.pth": {"w": torch.zeros(300)},
        "z/checkpoint.json": {"progress": {"epoch": value, "step": value}},
    }


def _store(root, **options):
    return CheckpointStore(root / "checkpoints", constant=_CONSTANT, **options)


def value_of(generation):
    value = generation.load("z/checkpoint.json")["progress"]["epoch"]
    for name, content in files(value).items():
        found = generation.load(name)
        same = torch.equal(found["w"], content["w"]) if name.endswith(".pth") else found == content
        assert same, f"{generation.path.name}: {name} is of another save"
    return value


def _save(root, values, acknowledge=lambda value: None):
    store = _store(root)
    for value in values:
        store.commit(files(value), FACTS)
        acknowledge(value)


def _save_four(root, acknowledge):
    _save(root, [1, 2, 3, 4], acknowledge)


def _save_three(root):
    """Save, and leave what an attempt that was killed has begun."""
    _save(root, [1, 2, 3])
    (root / "checkpoints/00000009.tmp/z").mkdir(parents=True)
    (root / "checkpoints/00000009.tmp/z/model.pth").write_bytes(b"half")


def _save_one_more(root, acknowledge):
    acknowledge(3)  # from the start
    store = _store(root)
    newest = store.latest()
    assert newest is not None and value_of(newest) in (2, 3)  # the one before, where the newest cannot be read
    store.commit(files(4), FACTS)
    acknowledge(4)


def _save_compressed(root, acknowledge):
    """Save five times, keep three, and have an emergency between them."""
    store = _store(root, keep=3, compress=True)
    for value in (1, 2, 3, 4, 5):
        store.commit(files(value), FACTS)
        acknowledge(value)
        if value == 3:
            store.commit(files(9), FACTS, emergency=True)
            acknowledge(-9)


def _save_emergency(root, acknowledge):
    acknowledge(3)
    _store(root).commit({**files(9)}, FACTS, emergency=True)
    acknowledge(-9)  # not among the others


def _newest_is_whole(root, acknowledged, is_cut):
    store = _store(root)
    newest = store.latest()
    value = value_of(newest) if newest else 0
    assert newest is None or newest.load("config.json") == _CONSTANT["config.json"]
    assert value in {max(acknowledged, default=0), max(acknowledged, default=0) + 1}, (value, acknowledged)
    for path in (root / "checkpoints").glob("[0-9]" * 8):
        if not is_cut:  # the names of what was being deleted may have come back
            value_of(store.named(path.name))
    if -9 in acknowledged:
        (emergency,) = (root / "checkpoints").glob("emergency-*")
        assert value_of(store.named(emergency.name)) == 9
    store.commit(files(value + 1), FACTS)
    again = _store(root).latest()
    assert again is not None and value_of(again) == value + 1
    assert not list((root / "checkpoints").glob("*.tmp"))


# --- simulations ---

_RANGES = [(0, 8), (8, 20), (20, 32)]
_TOTAL = 40


def _graph():
    return toy.theta_to_x(toy.add_noise)


def _simulate(root, acknowledge):
    toy_store = _open_simulations(root)
    toy_store.remove_leftovers()
    for start, stop in _RANGES:
        if (start, stop) not in [(s.start, s.stop) for s in toy_store.shards()]:
            toy_store.commit(start, stop, simulate_block(_graph(), SEED, start, stop))
        acknowledge(stop)
    return toy_store.load(["theta", "x"])["x"].tobytes()


def _open_simulations(root):
    return SimulationStore(root / "simulations", SEED, {"theta": (2,), "x": (2,)})


def _first_simulations(root):
    store = _open_simulations(root)
    store.commit(0, 8, simulate_block(_graph(), SEED, 0, 8))


def _simulations_continue(root, acknowledged, is_cut):
    """What was acknowledged is not drawn again, and the whole is the same as ever."""
    store = _open_simulations(root)
    missing = store.missing(_TOTAL)
    assert missing[0][0] >= max(acknowledged, default=0), (missing, acknowledged)
    store.remove_leftovers()
    for start, stop in missing:
        store.commit(start, stop, simulate_block(_graph(), SEED, start, stop))
    found = SimulationStore.open(root / "simulations").load(["theta", "x"])
    expected = simulate_block(_graph(), SEED, 0, _TOTAL)
    np.testing.assert_array_equal(found["index"], expected.index)
    for name in ("theta", "x"):
        np.testing.assert_array_equal(found[name], expected.values[name].astype(np.float32))


# --- simulations from a file ---


def _rows():
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, size=(30, 2)).astype(np.float32)
    return {"theta": theta, "x": theta + 1}


def _a_file(root):
    np.savez(root / "mine.npz", **_rows())


def _import(root, acknowledge):
    graph, path = _graph(), root / "mine.npz"
    store = SimulationStore(root / "simulations", SEED, imported_shapes(path, graph))
    import_simulations(path, graph, store, 20)
    acknowledge(20)
    import_simulations(path, graph, store, 30)
    acknowledge(30)
    return store.load(["theta", "x"])["x"].tobytes()


def _import_continues(root, acknowledged, is_cut):
    graph, path = _graph(), root / "mine.npz"
    store = SimulationStore(root / "simulations", SEED, imported_shapes(path, graph))
    assert sum(store.counts()) >= max(acknowledged, default=0)
    import_simulations(path, graph, store, 30)
    found = store.load(["theta", "x"])
    for name, values in _rows().items():
        np.testing.assert_array_equal(found[name], values)


RESUMED = Section("checkpoint of a resumed run", _save_three, _save_one_more, _newest_is_whole)
SECTIONS = [
    Section("checkpoints", lambda root: None, _save_four, _newest_is_whole),
    RESUMED,
    Section("checkpoints, compressed and three kept", lambda root: None, _save_compressed, _newest_is_whole),
    Section("emergency checkpoint", _save_three, _save_emergency, _newest_is_whole),
    Section("simulations", lambda root: None, _simulate, _simulations_continue),
    Section("simulations of a resumed run", _first_simulations, _simulate, _simulations_continue),
    Section("import from file", _a_file, _import, _import_continues),
]
