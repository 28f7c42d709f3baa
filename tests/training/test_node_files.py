"""A node's files in a checkpoint from an untrusted source: the error names the file, without a traceback."""

import io
import json
import re
import shutil

import pytest
import torch
import xxhash

from framework.checkpoint import CheckpointStore
from framework.errors import CheckpointError
from framework.records import encode
from framework.training.node_files import dataset_of_best, nodes_in, saved_progress, trained_on
from tests.support.toy_training import ADAM, StopAfter, make_trainer, restore, save

DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """A checkpoint in the middle of the second epoch."""
    trainer = make_trainer()
    trainer.fit(StopAfter(13), lambda: None, lambda record: None)
    return save(trainer, tmp_path_factory.mktemp("genuine"))


def forged(genuine, root, name, data):
    """The same checkpoint with another file, whose digest is right."""
    path = root / genuine.path.name
    shutil.copytree(genuine.path, path)
    (path / name).write_bytes(data)
    entry = {"size": len(data), "xxh3_128": xxhash.xxh3_128(data).hexdigest()}
    (path / "manifest.json").write_bytes(encode({**genuine.manifest, "files": {**genuine.files, name: entry}}))
    return CheckpointStore(root).latest()


def torch_file(content):
    """The bytes of a file in torch's format."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def changed(content, path, value):
    """A copy of nested containers with another value, or without one."""
    first, *rest = path
    copy = dict(content) if isinstance(content, dict) else list(content)
    if rest:
        copy[first] = changed(content[first], rest, value)
    elif value is KeyError:
        del copy[first]
    else:
        copy[first] = value
    return copy


def test_what_is_changed_here_is_right_otherwise(genuine, tmp_path):
    state = genuine.load("z/checkpoint.json")
    trainer = make_trainer()
    restore(trainer, forged(genuine, tmp_path, "z/checkpoint.json", json.dumps(state).encode()))
    assert trainer.progress.step == 13
    assert list(state) == ["progress", "rng", "classes", "settings", "run"]  # older versions read it, too
    assert list(genuine.load("z/optimizer.pth")) == ["optimizer", "scheduler"]
    assert {key: type(value) for key, value in state["progress"].items()} == {
        **dict.fromkeys(["epoch", "batch", "step", "best_epoch"], int),
        **dict.fromkeys(["best_loss", "train_seconds", "loss_sum"], float),
        **{"finished": bool, "history": list, "datasets": list},
    }


COUNTERS = [
    (("progress", name), value)
    for name in ("epoch", "batch", "step", "best_epoch")
    for value in ("three", None, -1, 1.0, float("inf"), 10**400, True, DEEP)
]
OTHERS = [
    *((("progress", name), "a word") for name in ("best_loss", "finished", "train_seconds", "loss_sum")),
    *((("progress", name), value) for name in ("history", "datasets") for value in (None, {}, [None], [[]], [{}], "x")),
    (("progress", "train_seconds"), float("nan")),
    (("progress", "loss_sum"), 10**400),
    (("progress", "history", 0, "val_loss"), None),
    (("progress", "history", 0, "val_loss"), KeyError),
    (("progress", "datasets"), []),
    (("progress", "datasets", 0, "epoch"), 1),
    (("progress", "datasets", 0, "training"), "many"),
    (("progress", "step"), KeyError),
    (("progress", "more"), 1),
    (("progress",), DEEP),
    (("progress",), KeyError),
    (("more",), 1),
    (("rng",), None),
    (("rng", "python"), [3, [1, 2], None]),
    (("rng", "numpy"), KeyError),
    (("rng", "torch"), "no hexadecimal"),
    (("rng", "torch"), "00"),
    (("classes",), []),
    (("classes", "rng"), 5),
    (("classes", "rng"), KeyError),
    (("classes", "rng"), "\x1b[2J"),
    (("settings",), None),
    (("settings", "more"), 1),
    (("settings", "batch_size"), "50"),
    (("settings", "optimizer"), "torch.optim.Adam"),
    (("settings", "optimizer", "scheduler"), KeyError),
    (("settings", "optimizer", "_target_"), ["torch.optim.Adam"]),
    (("settings", "optimizer", "lr"), "fast"),
    (("settings", "optimizer", "lr"), DEEP),
    (("settings", "optimizer", "more"), 1),
    (("run",), 7),
    (("run", "saved_at"), None),
    (("ranks",), {}),
    (("ranks",), [None, None]),
    (("ranks",), [{"rng": {}, "loss_sum": "much", "weight": 1.0}] * 2),
    (("ranks",), [{"rng": {}, "loss_sum": 1.0}] * 2),
]


@pytest.mark.parametrize(
    ("path", "value"), COUNTERS + OTHERS, ids=lambda v: ".".join(map(str, v)) if type(v) is tuple else repr(v)[:12]
)
def test_a_state_that_training_has_not_saved_is_refused_by_the_name_of_the_file(genuine, path, value, tmp_path):
    state = changed(genuine.load("z/checkpoint.json"), path, value)
    generation = forged(genuine, tmp_path, "z/checkpoint.json", json.dumps(state).encode())
    with pytest.raises(CheckpointError) as raised:
        restore(make_trainer(), generation)
    told = str(raised.value)
    assert told.startswith(f"{generation.path}/z/checkpoint.json: ") and len(told) < 700 and told.isprintable()
    for read in (saved_progress, dataset_of_best):
        if path[0] != "rng" and "lr" not in path and "more" not in path[2:]:
            with pytest.raises(CheckpointError, match=re.escape(told[:60])):
                read(generation, "z")


@pytest.mark.parametrize("content", [None, 5, [], "state", DEEP, {}], ids=repr)
def test_a_state_that_is_no_mapping_is_refused(genuine, content, tmp_path):
    generation = forged(genuine, tmp_path, "z/checkpoint.json", json.dumps(content).encode())
    with pytest.raises(CheckpointError, match=r"z/checkpoint\.json: expected progress, rng, .*, found"):
        restore(make_trainer(), generation)


@pytest.mark.parametrize("name", ["optimizer", "simulations"])
@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"optimizer": {}, "scheduler": {}}, {"optimizer": [], "scheduler": {}}, {"training": torch.ones(2)}],
    ids=repr,
)
def test_what_is_no_state_of_an_optimizer_or_no_ids_is_refused(genuine, name, content, tmp_path):
    generation = forged(genuine, tmp_path, f"z/{name}.pth", torch_file(content))
    with pytest.raises(CheckpointError, match=rf"z/{name}\.pth: .*not saved by training"):
        restore(make_trainer(), generation)


def test_a_state_cannot_bring_entries_from_another_file(genuine, tmp_path):
    content = {**genuine.load("z/optimizer.pth"), "progress": genuine.load("z/checkpoint.json")["progress"]}
    generation = forged(genuine, tmp_path, "z/optimizer.pth", torch_file(content))
    with pytest.raises(CheckpointError, match=r"z/optimizer\.pth: expected the states of"):
        restore(make_trainer(), generation)


@pytest.mark.parametrize("nodes", [None, "z", ["z", 1], {"z": 1}, ["\x1b[2J"]], ids=repr)
def test_nodes_that_are_no_list_of_names_are_refused(nodes, tmp_path):
    generation = CheckpointStore(tmp_path).commit({}, {} if nodes is None else {"nodes": nodes})
    with pytest.raises(CheckpointError, match=r"manifest\.json: nodes: expected a list of names"):
        nodes_in(generation)
    assert nodes_in(None) == []


class Planted(torch.optim.Adam):
    """What must not be built of a checkpoint."""

    built = 0

    def __init__(self, *args, **kwargs):
        Planted.built += 1
        super().__init__(*args, **kwargs)


PLANTED = "tests.training.test_checkpoint.Planted"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_target_",), PLANTED),
        (("scheduler", "_target_"), PLANTED),
        (("lr",), {"_target_": PLANTED, "params": []}),
        (("scheduler", "patience"), {"_target_": PLANTED, "params": []}),
    ],
)
def test_settings_in_a_checkpoint_do_not_say_what_is_built(genuine, path, value, tmp_path):
    state = changed(genuine.load("z/checkpoint.json"), ("settings", "optimizer", *path), value)
    generation = forged(genuine, tmp_path, "z/checkpoint.json", json.dumps(state).encode())
    trainer = make_trainer(optimizer={**ADAM, "lr": 3e-4})
    if "_target_" in path:  # another name for what the classes say, or a schedule that is replaced
        restore(trainer, generation)
        assert trainer.optimizer.param_groups[0]["lr"] == 3e-4
    else:
        with pytest.raises(CheckpointError, match=r"z/checkpoint\.json: .*settings: .*names 'tests\..*Planted'"):
            restore(trainer, generation)
    assert Planted.built == 0


def test_ids_are_those_that_were_saved(genuine):
    assert {name: len(ids) for name, ids in trained_on(genuine, "z").items()} == {"training": 450, "validation": 50}
