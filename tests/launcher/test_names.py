"""A job's folder is named after the overrides of its command line, whatever their order."""

import pytest

from framework.launcher.names import folder_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["seed=3", "network.hidden_dim=64"], "network.hidden_dim=64,seed=3"),
        (["network.hidden_dim=64", "seed=3"], "network.hidden_dim=64,seed=3"),
        (["network=maf", "optimizer/scheduler=cosine"], "network=maf,optimizer.scheduler=cosine"),
        (["seed=1", "seed=2"], "seed=2"),
        (["+network.extra=1"], "network.extra=1"),
        (["experiment=slcp", "loop.num_epochs=5", "runtime.grace=9s", "+resume=true"], "experiment=slcp"),
        (["tracking=[jsonl]", "graph.z.loop.num_epochs=7", "name=mine"], "base"),
        ([], "base"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_folder_name(overrides, name):
    assert folder_name(overrides) == name


def test_values_that_differ_only_in_what_no_folder_can_be_called_have_their_own_folders():
    names = {folder_name([f"simulation.from_file={path}"]) for path in ("a/b.npz", "a_b.npz", "a b.npz")}
    assert len(names) == 3
    assert not any("/" in name for name in names)


def test_long_names_are_cut_and_stay_distinct():
    first, second = (folder_name([f"priors.z.low=[{'1,' * 200}{last}]"]) for last in (1, 2))
    assert first != second
    assert len(first) == len(second) <= 200


def test_long_names_are_cut_by_their_bytes():
    assert len(folder_name([f"simulation.from_file={'ü' * 199}"]).encode()) <= 200
