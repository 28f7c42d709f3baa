"""Saving beside training: what is written is the state at the call, whatever happens to it afterwards."""

import logging
import random
import threading
import weakref
from collections import OrderedDict
from contextlib import contextmanager

import pytest
import torch

from framework.checkpoint import (
    CheckpointStore,
    CheckpointWriter,
    RandomState,
    SaveError,
    Snapshot,
    load_all,
    state_of,
)


def state(value, size=50_000):
    return {"z/model.pth": {"w": torch.full((size,), float(value)), "n": value}, "z/state.json": {"value": [value]}}


def tensors(content):
    if isinstance(content, torch.Tensor):
        return [content]
    items = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for item in items for tensor in tensors(item)]


def test_what_is_saved_is_the_state_at_the_call_while_training_continues_to_change_it(tmp_path):
    live = state(0)
    weights, values = live["z/model.pth"]["w"], live["z/state.json"]["value"]
    store = CheckpointStore(tmp_path, keep=20)
    with CheckpointWriter(store) as writer:
        for value in range(10):
            weights.fill_(value)
            values[0] = value
            writer.save(live, {"step": value})
            for _ in range(random.randrange(20)):  # the writer is at work now
                weights.add_(1.0)
                values[0] += 100
    for value, generation in enumerate(store.generations()):
        assert generation.manifest["step"] == value
        assert generation.load("z/state.json") == {"value": [value]}
        assert torch.equal(generation.load("z/model.pth")["w"], torch.full((50_000,), float(value)))
    assert len(store.generations()) == 10


def test_a_snapshot_is_bit_exact_under_mutation_from_another_thread_and_shares_no_memory(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(8, 64)).sum().backward()
    optimizer.step()
    parts = {"model": model, "optimizer": optimizer}
    snapshot, stop = Snapshot(), threading.Event()
    for _ in range(3):
        expected = [tensor.clone() for tensor in tensors(state_of(parts))]
        taken = tensors(snapshot.take(state_of(parts)))
        live = {tensor.untyped_storage().data_ptr() for tensor in tensors(state_of(parts))}
        stop.clear()
        thread = threading.Thread(target=train, args=(model, optimizer, stop))
        thread.start()
        assert not live & {tensor.untyped_storage().data_ptr() for tensor in taken}
        assert all(torch.equal(a, b) for a, b in zip(taken, expected, strict=True))
        stop.set()
        thread.join()
        assert all(torch.equal(a, b) for a, b in zip(taken, expected, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(tensors(state_of(parts)), expected, strict=True))


def train(model, optimizer, stop):
    while True:
        model(torch.randn(8, 64)).square().sum().backward()
        optimizer.step()
        if stop.is_set():
            return


def test_buffers_are_used_again_for_the_same_shapes_and_given_back_otherwise():
    snapshot = Snapshot()
    pointer = snapshot.take({"a": torch.zeros(100)})["a"].data_ptr()
    assert snapshot.take({"other": torch.ones(100)})["other"].data_ptr() == pointer
    first, second = snapshot.take([torch.zeros(100), torch.ones(100)])
    assert first.data_ptr() != second.data_ptr()
    unused = weakref.ref(first)
    del first, second
    snapshot.take([torch.zeros(7)])
    assert unused() is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(4, 5).t(),
        torch.randn(3).expand(4, 3),
        torch.randn(6)[::2],
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.nn.Parameter(torch.randn(3)),
        torch.tensor(3),
        torch.empty(0, 2),
        torch.randn(3).to(torch.bfloat16),
        torch.tensor([True, False]),
        torch.randn(2, dtype=torch.complex64),
    ],
    ids=[
        "transposed",
        "expanded",
        "strided",
        "channels_last",
        "parameter",
        "scalar",
        "empty",
        "bf16",
        "bool",
        "complex",
    ],
)
def test_every_kind_of_tensor_is_copied(tensor):
    copied = Snapshot().take({"t": tensor})["t"]
    assert torch.equal(copied, tensor) and copied.dtype == tensor.dtype
    assert not copied.requires_grad


def test_containers_keep_their_kind_and_are_copies():
    module_state = torch.nn.BatchNorm1d(2).state_dict()
    content = {"o": module_state, "l": [1, (2, {"k": None})], 3: float("inf"), "s": {1, 2}}
    copied = Snapshot().take(content)
    assert copied["l"] == [1, (2, {"k": None})] and copied["l"] is not content["l"]
    assert copied["l"][1][1] is not content["l"][1][1]
    assert copied["s"] == {1, 2} and copied["s"] is not content["s"]
    assert type(copied["o"]) is OrderedDict and copied["o"]._metadata == module_state._metadata


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_on_a_device_are_copied_before_later_kernels_change_them():
    snapshot, live = Snapshot(), torch.zeros(20_000_000, device="cuda")
    for value in range(20):
        live.fill_(value)
        copied = snapshot.take({"w": live})["w"]
        live.fill_(-1.0)
        snapshot.wait()
        assert copied.is_pinned() and torch.equal(copied, torch.full_like(copied, value))


def test_a_failed_save_gives_one_warning_and_training_continues(tmp_path, caplog):
    (tmp_path / "file").touch()
    writer = CheckpointWriter(CheckpointStore(tmp_path / "file" / "checkpoints"))
    writer.save(state(1), {})
    with pytest.raises(SaveError, match="not saved"):
        writer.flush()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "not saved" in caplog.text and "training continues" in caplog.text
    assert writer.flush() is None, "told once"
    (tmp_path / "file").unlink()
    writer.save(state(2), {})
    assert writer.flush().load("z/state.json") == {"value": [2]}
    writer.close()


def test_an_error_that_is_forgotten_is_raised_when_the_writer_is_closed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SaveError), CheckpointWriter(CheckpointStore(tmp_path / "file")) as writer:
        writer.save({"a.json": {}}, {})


def test_the_first_error_of_a_loop_is_the_one_that_is_seen(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeyError), CheckpointWriter(CheckpointStore(tmp_path / "file")) as writer:
        writer.save({"a.json": {}}, {})
        raise KeyError


def test_flush_waits_for_the_last_save_and_records_its_cost(tmp_path):
    with CheckpointWriter(CheckpointStore(tmp_path)) as writer:
        assert writer.flush() is None
        writer.prepare(state(0))
        writer.save(state(1), {})
        assert writer.flush().path.name == "00000001"
        assert 0 < writer.blocked_seconds <= writer.save_seconds


def test_a_guard_learns_what_blocks_the_training_and_how_long_writes_take(tmp_path):
    class Guard:
        holdups, writes = 0, ()

        @contextmanager
        def saving(self):
            yield
            self.holdups += 1

        def learn_write(self, seconds):
            self.writes = (*self.writes, seconds)

    guard = Guard()
    with CheckpointWriter(CheckpointStore(tmp_path), guard) as writer:
        writer.save(state(1), {})
        assert guard.holdups == 1
    assert guard.holdups == 2  # it has waited for the disk
    assert guard.writes == (writer.save_seconds,)


def test_the_loop_of_the_documentation_resumes_bit_for_bit(tmp_path):
    def train(num_steps, root):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters())
        parts = {"model": model, "optimizer": optimizer, "rng": RandomState()}
        store, start = CheckpointStore(root), 0
        if newest := store.latest():
            load_all(parts, newest.load("state.pth"))
            start = newest.manifest["step"]
        with CheckpointWriter(store) as writer:
            for step in range(start, num_steps):
                optimizer.zero_grad()
                model(torch.randn(4, 3)).square().mean().backward()
                optimizer.step()
                if (step + 1) % 5 == 0:
                    writer.save({"state.pth": state_of(parts)}, {"step": step + 1})
        return torch.nn.utils.parameters_to_vector(model.parameters())

    whole = train(20, tmp_path / "whole")
    train(13, tmp_path / "cut")
    assert torch.equal(train(20, tmp_path / "cut"), whole)
