"""Observations and true values from files: every format, and files that do not fit, named with their key."""

from dataclasses import replace

import numpy as np
import pytest

from framework.errors import ConfigError
from framework.graph import Graph, Node, check_shapes, load_array
from framework.priors import Uniform
from tests.support import toy_simulators as toy

OBSERVED = np.zeros((3, 2), np.float32)


def z_to_x(observed, truth=None):
    prior = Uniform(low=[-1, -1], high=[1, 1])
    return Graph(
        [
            Node("z", evidence=("x",), prior=prior, truth=truth),
            Node("x", ("z",), simulator=toy.first, observed=observed),
        ]
    )


def test_arrays_are_read_from_every_kind_of_file(tmp_path):
    np.savez(tmp_path / "only.npz", something=OBSERVED)
    np.save(tmp_path / "array.npy", OBSERVED.astype(int))
    np.savetxt(tmp_path / "table.csv", OBSERVED, delimiter=",")
    for name in ("only.npz", "array.npy", "table.csv"):
        array = load_array(tmp_path / name, "graph.x.observed")
        assert array.dtype == np.float32 and array.tolist() == OBSERVED.tolist()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.npy", b"garbage", "cannot be read"),
        ("x.csv", b"1,two\n", "cannot be read"),
        ("x.csv", b"1,nan\n", "1 of 2 values are NaN"),
        ("x.txt", b"1\n", "expected .npz, .npy or .csv"),
    ],
)
def test_unusable_file_is_named_with_its_key(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_array(tmp_path / name, "graph.x.observed")
    assert str(caught.value).startswith(f"graph.x.observed={tmp_path / name}: ") and reason in str(caught.value)


def test_npz_without_the_node_lists_what_it_has(tmp_path):
    np.savez(tmp_path / "both.npz", a=OBSERVED, b=OBSERVED)
    with pytest.raises(ConfigError, match="no array 'x' in it, only a, b"):
        load_array(tmp_path / "both.npz", "graph.x.observed")


@pytest.mark.parametrize(
    ("array", "event", "shape"),
    [
        (np.zeros((3, 2)), (2,), (3, 2)),
        (np.zeros(2), (2,), (1, 2)),
        (np.zeros((4, 5)), (4, 5), (1, 4, 5)),
        (np.zeros(3), (1,), (3, 1)),
    ],
)
def test_missing_axes_of_observations_are_added(array, event, shape):
    graph = check_shapes(z_to_x(array), {"z": (2,), "x": event})
    assert graph.nodes["x"].observed.shape == shape
    assert graph.num_observations == shape[0]


def test_observations_of_another_shape_are_refused():
    graph = z_to_x(np.zeros((10, 3)))
    with pytest.raises(ConfigError) as caught:
        check_shapes(graph, {"z": (2,), "x": (2,)})
    message = "graph.x.observed: file has shape (10, 3), expected (num_observations, 2): a simulation has shape (2,)"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("event", "count", "part"),
    [((3,), 3, "number"), ((20, 2), 2, "series"), ((32, 32), 1, "channel"), ((2, 2), 4, "number")],
)
def test_an_observable_has_a_label_for_each_of_its_parts(event, count, part):
    z, x = z_to_x(None).nodes.values()

    def check(number):
        labels = tuple(f"label {i}" for i in range(number))
        return check_shapes(Graph([z, replace(x, labels=labels)]), {"z": (2,), "x": event})

    assert check(count).nodes["x"].labels[-1] == f"label {count - 1}"
    with pytest.raises(
        ConfigError, match=rf"graph\.x\.labels=.*: 5 given, expected {count}, one for each {part} of 'x'"
    ):
        check(5)


def test_truth_of_another_shape_is_refused():
    graph = z_to_x(OBSERVED, truth=np.zeros((3, 5)))
    with pytest.raises(ConfigError, match=r"graph\.z\.truth: file has shape \(3, 5\)"):
        check_shapes(graph, {"z": (2,), "x": (2,)})


def test_numbers_of_observations_are_compared_again_once_axes_are_complete():
    graph = z_to_x(OBSERVED, truth=np.zeros(2))
    with pytest.raises(ConfigError, match="one row for each observation"):
        check_shapes(graph, {"z": (2,), "x": (2,)})
