"""What `framework/compat/torch.py` expects of torch's lists of tensors, its file format and its messages."""

import io
import pickle
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed as dist

from framework.checkpoint.arrays import Pickler, rebuild
from framework.compat import torch as compat


def test_lists_of_tensors_are_summed_scaled_and_copied_as_one_by_one():
    """If this fails, use torch.nn.utils.get_total_norm and loops instead, and measure with scripts/bench training."""
    tensors = [torch.randn(3, 2), torch.randn(4)]
    norm = compat.total_norm(tensors)
    assert torch.equal(norm, torch.nn.utils.get_total_norm(tensors))
    halves = [tensor / 2 for tensor in tensors]
    compat.scale(tensors, torch.tensor(0.5))
    assert all(map(torch.equal, tensors, halves))
    targets = [torch.zeros(3, 2), torch.zeros(4)]
    compat.copy_all(targets, [half.requires_grad_() for half in halves])
    assert all(map(torch.equal, targets, halves)) and not any(target.requires_grad for target in targets)


def test_tensors_are_found_and_changed_anywhere():
    """If this fails, walk through tuples, lists and dictionaries by hand, or look for a public `torch.utils.pytree`."""
    nested = ((torch.ones(1), [2, {"x": torch.ones(2)}]), {"out": None})
    assert [len(tensor) for tensor in compat.tensors_in(nested)] == [1, 2]
    changed = compat.map_tensors(lambda tensor: tensor.to("meta"), nested)
    assert all(tensor.is_meta for tensor in compat.tensors_in(changed)) and changed[0][1][0] == 2


def written(content, checksums=False):
    file = io.BytesIO()
    compat.save(content, file, Pickler, checksums)
    return file.getvalue()


CONTENT = {"w": torch.arange(6.0), "a": np.arange(3), "empty": b"", "s": np.float64(1.5)}


def check(data):
    compat.load_may_call(rebuild)
    read = torch.load(io.BytesIO(data), weights_only=True)
    assert torch.equal(read["w"], CONTENT["w"]) and read["a"].tolist() == [0, 1, 2]
    assert (read["empty"], read["s"], type(read["s"])) == (b"", 1.5, np.float64)


def test_a_pickler_of_ones_own_writes_what_torch_load_reads():
    """If this fails, see what torch.save asks of its `pickle_module` now; old checkpoints must still be read."""
    check(written(CONTENT))


def test_what_torch_load_may_call_is_no_more_than_was_allowed():
    """If this fails, a checkpoint could run code: torch.load(weights_only=True) has other rules."""
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(written({"x": threading.Event})), weights_only=True)


def test_deflated_records_are_read_like_any_others():
    """If this fails, drop runtime.compress for new checkpoints, and inflate old ones before torch.load gets them."""
    content = {**CONTENT, "zeros": torch.zeros(10_000)}
    data = compat.deflated(content, Pickler)
    assert len(data) < 10_000
    check(data)


def test_checksums_are_written_only_where_asked_for_and_the_setting_stays():
    """If this fails, torch has another setting for this; without it, a save takes a third longer."""
    before = torch.serialization.get_crc32_options()
    sums = []
    for checksums in (True, False):
        with zipfile.ZipFile(io.BytesIO(written(CONTENT, checksums))) as file:
            sums.append({info.filename: info.CRC for info in file.infolist()})
    assert sums[0] != sums[1] and torch.serialization.get_crc32_options() == before


@pytest.mark.parametrize(
    ("name", "is_its_own"),
    [("relu", True), ("conv1d", True), ("gelu", True), ("Callable", False), ("has_torch_function", False)],
)
def test_functions_of_functional_are_told_from_what_it_imports(name, is_its_own):
    """If this fails, `torch.nn.functional` takes its functions from other modules: add them to `is_of_functional`."""
    value = getattr(torch.nn.functional, name)
    assert compat.is_of_functional(value, f"torch.nn.functional.{name}") is is_its_own
    assert not compat.is_of_functional(value, f"elsewhere.{name}")


def test_the_module_that_the_first_optimizer_imports():
    """If this fails, torch imports another module with its first optimizer, or none: name that, or drop the `load`."""
    script = f"""if True:
        import sys, torch
        assert {compat.FIRST_OPTIMIZER_IMPORTS!r} not in sys.modules
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
        assert {compat.FIRST_OPTIMIZER_IMPORTS!r} in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_rank_that_is_gone_is_told_from_other_errors(tmp_path):
    """If this fails, the loss of a rank ends in a traceback: see what gloo's errors begin with now."""
    script = f"""if True:
        import os, sys, torch, torch.distributed as dist
        rank = int(sys.argv[1])
        dist.init_process_group("gloo", "file://{tmp_path}/store", rank=rank, world_size=2)
        dist.all_reduce(torch.ones(1))
        if rank:
            os._exit(0)
        try:
            while True:
                dist.all_reduce(torch.ones(1))
        except RuntimeError as error:
            from framework.compat.torch import first_line, is_lost_rank
            assert is_lost_rank(error), error
            assert "gloo" not in first_line(error), error
            print(first_line(error))
    """
    ranks = [
        subprocess.Popen([sys.executable, "-c", script, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    line, _ = ranks[0].communicate(timeout=120)
    ranks[1].communicate(timeout=120)
    assert ranks[0].returncode == 0 and line.strip()
    assert compat.is_lost_rank(dist.DistBackendError("of nccl")) and not compat.is_lost_rank(RuntimeError("of a layer"))
