"""Simulating again for nodes that the stored simulations lack."""

import numpy as np
import pytest

from framework.errors import SimulationError
from framework.simulation import SimulationStore, changed_nodes, set_aside_store
from framework.simulation.block import Block


def store(directory, seed=0, first=0, **values):
    made = SimulationStore(directory, seed, {name: value.shape[1:] for name, value in values.items()})
    num_rows = len(next(iter(values.values())))
    made.commit(first, first + num_rows, Block(np.arange(first, first + num_rows), values, []))
    return made


def numbers(num_rows, start=0.0):
    return np.arange(start, start + num_rows, dtype=np.float32)[:, None]


def test_a_store_that_lacks_a_node_is_set_aside(tmp_path):
    directory = tmp_path / "simulations"
    assert set_aside_store(directory, ["z"], 3) is None
    store(directory, z=numbers(3))
    assert set_aside_store(directory, ["z"], 3) is None and directory.exists()
    assert set_aside_store(directory, ["z", "w"], 3) == tmp_path / "simulations.old-1"
    store(directory, z=numbers(3))
    assert set_aside_store(directory, ["w"], 3) == tmp_path / "simulations.old-2"
    assert SimulationStore.open(tmp_path / "simulations.old-1").counts() == (3, 0)


def test_a_store_with_a_node_that_is_gone_is_set_aside_only_where_more_of_it_would_be_needed(tmp_path):
    directory = tmp_path / "simulations"
    store(directory, z=numbers(3), w=numbers(3))
    assert set_aside_store(directory, ["z"], 3) is None and set_aside_store(directory, ["z"], None) is None
    assert set_aside_store(directory, ["z"], 4) == tmp_path / "simulations.old-1"


def test_values_are_compared_where_both_have_a_simulation(tmp_path):
    old = store(tmp_path / "old", z=numbers(4), x=numbers(4))
    assert changed_nodes(old.directory, store(tmp_path / "same", z=numbers(9), x=numbers(9), w=numbers(9))) == []
    assert changed_nodes(old.directory, store(tmp_path / "other", z=numbers(9), x=numbers(9, start=1))) == ["x"]
    assert changed_nodes(old.directory, store(tmp_path / "apart", first=4, z=numbers(5), x=numbers(5))) == []


def test_those_of_before_may_be_damaged_and_those_of_now_may_not(tmp_path, caplog):
    old, new = store(tmp_path / "old", z=numbers(4)), store(tmp_path / "new", z=numbers(4))
    (tmp_path / "old/0-4.npy").write_bytes(b"")
    assert changed_nodes(old.directory, new) == []
    assert "the new simulations cannot be compared with the old ones" in caplog.text
    (tmp_path / "old/index.json").write_bytes(b"")
    assert changed_nodes(old.directory, new) == []
    (tmp_path / "new/0-4.npy").write_bytes(b"")
    with pytest.raises(SimulationError, match=r"new/0-4\.npy: damaged"):
        changed_nodes(store(tmp_path / "older", z=numbers(4)).directory, new)
