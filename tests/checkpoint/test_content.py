"""What a state may hold: it is restored with the same types and bits, or the first save refuses it by its path."""

import collections
import dataclasses
import datetime
import enum
import functools
import json
import math
import pathlib
import random
import re
import struct
import sys
import types
import weakref

import numpy as np
import pytest
import torch
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from framework.checkpoint import CheckpointStore, CheckpointWriter, Snapshot, StateError, arrays
from framework.checkpoint.durable_file import DIGEST
from framework.errors import CheckpointError
from framework.records import encode

Point = collections.namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


class Special(torch.Tensor):
    pass


def saved(tmp_path, content, name="state.pth"):
    """Return `content` as it is read after `commit`, having checked that the writer's is the same."""
    store = CheckpointStore(tmp_path)
    committed = store.commit({name: content}, {}).load(name)
    with CheckpointWriter(store) as writer:
        writer.save({name: content}, {"through": "the writer"})
    written = CheckpointStore(tmp_path).latest().load(name)
    assert same(written, committed)
    return committed


def same(a, b):
    """Tell whether two values are equal in type and in every bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same_kind = (a.dtype, a.shape) == (b.dtype, b.shape)
        return same_kind and bits(a) == bits(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return (a.dtype.str, a.shape) == (b.dtype.str, b.shape) and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    return a == b


def bits(tensor):
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).tolist() if plain.numel() else []


NUMPY_CODES = "?bhilBHILefdFD"


@pytest.mark.parametrize("code", NUMPY_CODES)
def test_arrays_and_numbers_of_numpy_come_back_in_type_and_bits(tmp_path, code):
    values = np.array([0, 1, -1, np.nan, -0.0] if code in "efdFD" else [0, 1, 1]).astype(code)
    content = {
        "array": values,
        "swapped": values.astype(values.dtype.newbyteorder(">")),
        "number": values[1],
        "scalar": np.array(values[0]),
        "empty": np.zeros((0, 3), code),
        "strided": np.zeros((4, 6), code)[::2, 1::3],
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3).astype(code)),
        "read-only": np.broadcast_to(values, (2, len(values))),
        values[0]: "as a key",
        (values[0], 1): "in a key",
    }
    read = saved(tmp_path, content)
    assert same(read, content)
    assert np.isfortran(read["columns"]), "the order of sums depends on it"
    read["array"][0] = 1


def test_files_name_one_function_for_numpys_values_and_it_keeps_its_name(tmp_path):
    """Checkpoints on disk refer to it: whoever moves it has to keep reading the name that they hold."""
    path = tmp_path / "00000001"
    path.mkdir()
    with (path / "state.pth").open("wb") as file:
        torch.save({"a": ByEarlierVersion(np.arange(3))}, file)
    assert same(sealed(path).latest().load("state.pth"), {"a": np.arange(3)})


class ByEarlierVersion:
    """An array as every version so far has written it."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        rebuild = sys.modules["framework.checkpoint.arrays"].rebuild
        return rebuild, (self.array.dtype.str, torch.from_numpy(self.array.view(np.uint8)), self.array.shape, "C")


@pytest.mark.parametrize(
    "content",
    [
        np.random.get_state(),
        np.random.get_state(legacy=False),
        np.random.default_rng(0).bit_generator.state,
        random.getstate(),
        torch.Generator().manual_seed(3).get_state(),
        {"bytes": b"", b"": bytearray(b"\0"), "set": {1, "a", (2, None)}, "complex": complex(math.nan, -0.0)},
        {1: 0, (1, 2): 1, None: 2, False: 3, 1.5: 4, "nested": [({"a": []},), (), {}]},
        {
            "dtype": torch.bfloat16,
            "size": torch.Size([2, 3]),
            "device": torch.device("cuda:1"),
            "layout": torch.strided,
        },
        {"long": 2**127 + 1, "nan": math.nan, "inf": -math.inf, "zero": -0.0, "text": "\ud800é\0"},
        collections.OrderedDict(a=1, b=collections.Counter("aab")),
    ],
    ids=lambda content: type(content).__name__,
)
def test_generators_and_plain_containers_come_back(tmp_path, content):
    assert same(saved(tmp_path, content), content)


@pytest.mark.parametrize(
    "dtype", sorted({t for t in vars(torch).values() if isinstance(t, torch.dtype)}, key=str), ids=str
)
def test_a_tensor_of_every_dtype_comes_back_or_is_refused(tmp_path, dtype):
    try:
        tensor = torch.arange(16, dtype=torch.uint8).remainder(2).view(dtype)
    except RuntimeError:
        pytest.skip("torch makes none")
    try:
        read = saved(tmp_path, {"t": tensor})["t"]
    except StateError as error:
        assert f"t is a torch.Tensor of {dtype}" in str(error)
        assert not list(tmp_path.iterdir())
        assert re.match(r"torch\.(q|u?int[1-7]$|bit)", str(dtype)), "only what is smaller than a byte or quantized"
    else:
        assert read.dtype == dtype and read.untyped_storage().tolist() == tensor.untyped_storage().tolist()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.empty(0, 2),
        torch.randn(4, 5).t(),
        torch.randn(3).expand(4, 3),
        torch.randn(6)[1::2],
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(3, dtype=torch.complex64).conj().imag,
        torch.nn.Parameter(torch.randn(2)),
        torch.randn(2, requires_grad=True) * 2,
    ],
    ids=["scalar", "empty", "transposed", "expanded", "strided", "conjugate", "negated", "parameter", "with a history"],
)
def test_tensors_come_back_as_plain_ones(tmp_path, tensor):
    read = saved(tmp_path, {"t": tensor})["t"]
    assert type(read) is torch.Tensor and not read.requires_grad and same(read, tensor)


def test_what_a_script_attaches_to_a_parameter_is_no_state(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    weight.origin = pathlib.Path("elsewhere")
    assert same(saved(tmp_path, {"w": weight})["w"], weight)


def test_an_ordered_dict_keeps_its_attributes(tmp_path):
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert saved(tmp_path, state)._metadata == state._metadata
    state.origin = pathlib.Path("elsewhere")
    with pytest.raises(StateError, match=r"state\.pth: __dict__\.origin is a pathlib\.PosixPath"):
        CheckpointStore(tmp_path).commit({"state.pth": state}, {})


def schedulers():
    """Each schedule of torch with what else it wants to know."""
    yield lr_scheduler.LambdaLR, {"lr_lambda": lambda epoch: 0.9**epoch}
    yield lr_scheduler.MultiplicativeLR, {"lr_lambda": lambda epoch: 0.9}
    yield lr_scheduler.StepLR, {"step_size": 2}
    yield lr_scheduler.MultiStepLR, {"milestones": [2, 2, 4]}
    yield lr_scheduler.ConstantLR, {}
    yield lr_scheduler.LinearLR, {}
    yield lr_scheduler.ExponentialLR, {"gamma": 0.9}
    yield lr_scheduler.PolynomialLR, {}
    yield lr_scheduler.CosineAnnealingLR, {"T_max": 5}
    yield lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3}
    yield lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.1}
    yield lr_scheduler.OneCycleLR, {"max_lr": 0.1, "total_steps": 10}
    yield lr_scheduler.ReduceLROnPlateau, {}
    yield SWALR, {"swa_lr": 0.05}


@pytest.mark.parametrize(("kind", "arguments"), list(schedulers()), ids=lambda value: getattr(value, "__name__", ""))
def test_every_schedule_of_torch_can_be_saved(tmp_path, kind, arguments):
    scheduler = kind(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9), **arguments)
    for _ in range(3):
        scheduler.step(*([1.0] if kind is lr_scheduler.ReduceLROnPlateau else []))
    state = scheduler.state_dict()
    assert same(saved(tmp_path, state), state)


def test_schedules_of_schedules_can_be_saved(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.StepLR(optimizer, 2)]
    for scheduler in (
        lr_scheduler.SequentialLR(optimizer, parts, milestones=[2]),
        lr_scheduler.ChainedScheduler(parts, optimizer),
    ):
        state = scheduler.state_dict()
        assert same(saved(tmp_path, state), state)


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD", "LBFGS", "RMSprop", "Adagrad", "Adafactor", "NAdam", "Rprop"])
def test_every_optimizer_of_torch_can_be_saved(tmp_path, kind):
    model = torch.nn.Linear(3, 2)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1)

    def loss():
        optimizer.zero_grad()
        value = model(torch.ones(4, 3)).square().mean()
        value.backward()
        return value

    for _ in range(2):
        optimizer.step(loss)
    state = optimizer.state_dict()
    assert same(saved(tmp_path, state), state)


SPECIAL = torch.ones(2).as_subclass(Special)
REFUSED = {  # value: its type, and what to write instead, in words and as a function that does it
    "deque": (collections.deque([1]), "collections.deque", "list(...)", list),
    "defaultdict": (collections.defaultdict(int, a=1), "collections.defaultdict", "dict(...)", dict),
    "namedtuple": (Point(1, 2), "Point", "its ._asdict()", lambda v: v._asdict()),
    "enum": (Colour.RED, "Colour", "its .name or .value", lambda v: v.name),
    "int enum": (Level.LOW, "Level", "its .name or .value", lambda v: v.value),
    "dataclass": (Settings(), "Settings", "dataclasses.asdict(...)", dataclasses.asdict),
    "path": (pathlib.Path("x"), "pathlib.PosixPath", "str(...)", str),
    "datetime": (datetime.datetime(2026, 1, 1), "datetime.datetime", "its .isoformat()", lambda v: v.isoformat()),
    "timedelta": (datetime.timedelta(1), "datetime.timedelta", "its .total_seconds()", lambda v: v.total_seconds()),
    "range": (range(3), "range", "list(...)", list),
    "slice": (slice(1), "slice", "its .start, .stop and .step", lambda v: [v.start, v.stop, v.step]),
    "frozenset": (frozenset({1}), "frozenset", "list(...)", list),
    "mapping": (types.MappingProxyType({1: 2}), "mappingproxy", "dict(...)", dict),
    "function": (same, "function", "its name, and look it up when you load", lambda v: v.__name__),
    "class": (Point, "type", "its name, and look it up when you load", lambda v: v.__name__),
    "partial": (functools.partial(same, 1), "functools.partial", "the numbers, text, ", lambda v: v.args),
    "module": (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear", "its .state_dict()", lambda v: v.state_dict()),
    "torch generator": (torch.Generator(), "torch._C.Generator", "its .get_state()", lambda v: v.get_state()),
    "numpy generator": (
        np.random.default_rng(0),
        "numpy.random._generator.Generator",
        "its .bit_generator.state",
        lambda v: v.bit_generator.state,
    ),
    "random": (random.Random(0), "random.Random", "its .getstate()", lambda v: v.getstate()),
    "str subclass": (np.str_("a"), "numpy.str_", "str(...)", str),
    "date of numpy": (np.datetime64("2026-01-01"), "numpy.datetime64", "its .item()", lambda v: v.item().isoformat()),
    "long double": (np.longdouble(1), "numpy.longdouble", "float(...)", float),
    "objects": (np.array([None]), "numpy.ndarray of dtype object", "its .tolist()", lambda v: v.tolist()),
    "texts": (np.array(["a"]), "numpy.ndarray of dtype <U1", "its .tolist()", lambda v: v.tolist()),
    "fields": (np.zeros(1, "i4,f8"), "numpy.ndarray of dtype", "one array for each field", lambda v: v["f0"]),
    "dates": (np.zeros(1, "M8[s]"), "datetime64[s]", "astype('int64')", lambda v: v.astype("int64")),
    "masked": (np.ma.masked_array([1], [True]), "MaskedArray", "its .data and .mask", lambda v: [v.data, v.mask]),
    "sparse": (torch.eye(2).to_sparse(), "torch.Tensor", "its .to_dense()", lambda v: v.to_dense()),
    "csr": (torch.eye(2).to_sparse_csr(), "torch.Tensor", "its .to_dense()", lambda v: v.to_dense()),
    "meta": (torch.empty(2, device="meta"), "torch.Tensor", "a tensor that has data", torch.zeros_like),
    "subclass": (SPECIAL, "Special", ".as_subclass(torch.Tensor)", lambda v: v.as_subclass(torch.Tensor)),
    "integer": (-(2**2031), "", "write hex(...)", hex),
}  # fmt: skip


def tree(path):
    return {p.relative_to(path): p.is_file() and p.read_bytes() for p in path.rglob("*")}


@pytest.mark.parametrize("through", ["commit", "save", "prepare"])
@pytest.mark.parametrize(("value", "kind", "advice", "follow"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_read_is_refused_by_its_path_with_advice(tmp_path, value, kind, advice, follow, through):
    store = CheckpointStore(tmp_path)
    store.commit({"state.pth": {"w": torch.ones(2)}}, {"step": 1})
    before = tree(tmp_path)
    content = {"optimizer": {"state": {0: {"when": [torch.zeros(2), value]}}}}
    with CheckpointWriter(store) as writer:
        call = {"commit": store.commit, "save": writer.save, "prepare": writer.prepare}[through]
        with pytest.raises(StateError) as caught:
            call({"state.pth": content}, {"step": 2})
        assert writer.flush() is None
    message = str(caught.value)
    assert message.startswith("state.pth: optimizer.state.0.when.1 ") and kind in message and advice in message
    assert caught.value.exit_code == 2 and "\n" not in message
    assert tree(tmp_path) == before
    if type(followed := follow(value)) is not torch.Tensor or not followed.is_meta:  # the advice is good
        store.commit({"state.pth": followed}, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"z": {pathlib.Path("x"): 1}},
            r"state\.pth: z has the key PosixPath\('x'\), a pathlib.PosixPath.*str\(\.\.\.\)",
        ),
        ({"z": {(1, frozenset()): 1}}, r"state\.pth: z has the key \(1, frozenset\(\)\), a tuple"),
        ({"z": {frozenset({1})}}, r"state\.pth: z has the key frozenset"),
        ({"z": (1, {2: int})}, r"state\.pth: z\.1\.2 is a type"),
        (pathlib.Path("x"), r"state\.pth is a pathlib"),
    ],
)
def test_keys_and_elements_are_refused_likewise(tmp_path, content, message):
    with pytest.raises(StateError, match=message):
        CheckpointStore(tmp_path / "new").commit({"state.pth": content}, {})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["state.pth", "state.json"])
@pytest.mark.parametrize("make", [dict, list])
def test_what_contains_itself_is_refused(tmp_path, name, make):
    content = make()
    content.update(a=content) if make is dict else content.append(content)
    with pytest.raises(StateError, match=rf"{name}: (a|0)\..* is nested more than 100 levels deep, or contains itself"):
        CheckpointStore(tmp_path).commit({name: content}, {})


def test_json_gives_back_what_it_is_given(tmp_path):
    content = {"a": [1, -0.0, 1e300, math.inf, math.nan, True, None, "é\ud800", {"b": []}], "long": 2**2031 - 1}
    assert same(saved(tmp_path, content, "state.json"), content)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), r"is a tuple, which JSON cannot hold: write list\(\.\.\.\)"),
        ({1: 2}, r"has the key 1, an int, which JSON cannot hold: write str\(\.\.\.\)"),
        (np.float64(1), r"is a numpy\.float64, which JSON cannot hold: write its \.item\(\)"),
        (np.arange(2), r"is a numpy\.ndarray of dtype int64, .* write its \.tolist\(\)"),
        (torch.ones(2), r"is a torch\.Tensor .* write its \.tolist\(\)"),
        (collections.OrderedDict(), r"is a collections\.OrderedDict, .* write dict\(\.\.\.\)"),
        ({1, 2}, r"is a set, .* write list\(\.\.\.\)"),
        (b"a", r"is a bytes, .* write its \.hex\(\)"),
        (1j, r"is a complex, .* write its \.real and \.imag"),
        (Level.LOW, r"is a .*Level, .* write its \.name or \.value"),
        (datetime.date(2026, 1, 1), r"is a datetime\.date, .* write its \.isoformat\(\)"),
        (torch.float32, r"is a torch\.dtype, .* write str\(\.\.\.\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_is_refused_in_files_and_in_metadata(tmp_path, value, message):
    store = CheckpointStore(tmp_path)
    with CheckpointWriter(store) as writer:
        for call in (store.commit, writer.save, writer.prepare):
            with pytest.raises(StateError, match=rf"^z/a\.json: best {message}"):
                call({"z/a.json": {"best": value}}, {})
            with pytest.raises(StateError, match=rf"^metadata: run\.best {message}"):
                call({}, {"run": {"best": value}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["files", DIGEST])
def test_metadata_cannot_take_the_manifests_own_names(tmp_path, name):
    with pytest.raises(StateError, match=f"metadata: {name} is reserved for the manifest"):
        CheckpointStore(tmp_path).commit({}, {name: 1})


@pytest.mark.parametrize("name", ["manifest.json", "../out.pth", "/tmp/out.pth", "a//b", "", 3])
def test_files_stay_within_the_checkpoint(tmp_path, name):
    with pytest.raises(StateError, match="is not a valid file name in a checkpoint"):
        CheckpointStore(tmp_path).commit({name: {}}, {})


def test_constant_files_are_looked_at_when_the_store_is_made(tmp_path):
    with pytest.raises(StateError, match=r"config\.json: when is a datetime"):
        CheckpointStore(tmp_path, constant={"config.json": {"when": datetime.datetime(2026, 1, 1)}})


def test_a_refused_save_leaves_the_writer_as_it_was(tmp_path):
    weights = torch.zeros(1000)
    with CheckpointWriter(CheckpointStore(tmp_path, keep=9)) as writer:
        for value in range(3):
            weights.fill_(value)
            with pytest.raises(StateError):
                writer.save({"state.pth": {"w": weights, "when": pathlib.Path("x")}}, {})
            weights.add_(0.5)
            writer.save({"state.pth": {"w": weights}}, {})
    read = [generation.load("state.pth")["w"] for generation in writer.store.generations()]
    assert [(tensor.min().item(), tensor.max().item()) for tensor in read] == [(v + 0.5, v + 0.5) for v in range(3)]


def test_a_refused_save_holds_on_to_nothing():
    snapshot, weights = Snapshot(), torch.zeros(1000)
    with pytest.raises(StateError):
        snapshot.take([weights, pathlib.Path("x")])
    kept = weakref.ref(weights)
    del weights
    assert kept() is None


def test_a_mistake_that_shows_only_while_writing_is_raised_by_the_next_save(tmp_path, monkeypatch, caplog):
    writer = CheckpointWriter(CheckpointStore(tmp_path))
    monkeypatch.setattr(torch, "save", lambda *args: 1 / 0)
    writer.save({"state.pth": {}}, {})
    with pytest.raises(ZeroDivisionError):
        writer.save({"state.pth": {}}, {})
    assert "training continues" not in caplog.text
    monkeypatch.undo()
    writer.save({"state.pth": {}}, {})
    writer.close()


def as_landed(root, content):
    """Write a generation as it was written before NumPy's arrays could be: by torch.save alone."""
    path = root / "00000001"
    path.mkdir(parents=True)
    torch.save(content, path / "state.pth")
    return sealed(path)


def sealed(path):
    """Give a generation the manifest that its file asks for."""
    file = path / "state.pth"
    entry = {"size": file.stat().st_size, DIGEST: xxhash.xxh3_128(file.read_bytes()).hexdigest()}
    (path / "manifest.json").write_bytes(encode({"step": 7, "files": {"state.pth": entry}}))
    return CheckpointStore(path.parent)


def test_a_checkpoint_of_plain_torch_is_read_bit_for_bit(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "sparse": torch.eye(2).to_sparse()}
    newest = as_landed(tmp_path, content).latest()
    read = newest.load("state.pth")
    assert newest.manifest["step"] == 7
    assert torch.equal(read.pop("sparse").to_dense(), content.pop("sparse").to_dense())
    assert same(read, content)
    newest = CheckpointStore(tmp_path).commit({"more.pth": {}}, {})
    assert same(newest.load("state.pth")["model"], content["model"])


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "arguments",
    [
        ("O", torch.zeros(8, dtype=torch.uint8), (1,), "C"),
        ("S8", torch.zeros(8, dtype=torch.uint8), (1,), "C"),
        (["f8"], b"12345678"),
        ("<f8", b"short"),
        ("<f8", "text"),
        ("<f8", 10**12),
        ("<f8", torch.zeros(9, dtype=torch.uint8), (1,), "C"),
        ("<f8", torch.zeros(8, dtype=torch.uint8), (10**12,), "C"),
        ("<f8", torch.zeros(8), (8,), "C"),
        ("<f8", torch.zeros(8, dtype=torch.uint8), (1,), ["C"]),
        (),
    ],
    ids=str,
)
def test_an_array_that_was_tampered_with_is_refused(tmp_path, arguments):
    store = as_landed(tmp_path, {"a": Call(arrays.rebuild, *arguments)})
    newest = store.latest()
    try:
        read = newest.load("state.pth")["a"]
    except CheckpointError as error:
        assert str(error).startswith(f"{tmp_path}/00000001/state.pth: ")
    else:
        assert arguments[-1] == ["C"] and read.tolist() == [0.0], "an order that is none is the usual one"


def test_bytes_without_end_cannot_be_asked_for(tmp_path):
    with pytest.raises(CheckpointError):
        as_landed(tmp_path, {"a": Call(bytes, 10**13)}).latest().load("state.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\0.", bytes(range(256))], ids=len)
def test_a_file_that_is_none_of_torchs_is_refused_even_if_its_digest_is_right(tmp_path, content):
    as_landed(tmp_path, {})
    (tmp_path / "00000001" / "state.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pth: (damaged|refused)"):
        sealed(tmp_path / "00000001").latest().load("state.pth")


integers = st.integers(-(2**2031) + 1, 2**2031 - 1)
numpy_dtypes = st.sampled_from(NUMPY_CODES).map(np.dtype)
numpy_values = st.tuples(numpy_dtypes, st.sampled_from("<>")).flatmap(
    lambda pair: np_st.arrays(pair[0].newbyteorder(pair[1]), np_st.array_shapes(min_dims=0, min_side=0, max_side=3))
)
numpy_numbers = numpy_dtypes.flatmap(lambda dtype: np_st.arrays(dtype, 1)).map(lambda array: array[0])
tensors = np_st.arrays(
    st.sampled_from([np.float32, np.int64, np.bool_, np.complex64]), np_st.array_shapes(min_side=0)
).map(torch.from_numpy)
scalars = st.none() | st.booleans() | integers | st.floats() | st.text()
keys = st.recursive(
    scalars | st.binary() | st.complex_numbers() | numpy_numbers,
    lambda keys: st.lists(keys, max_size=2).map(tuple),
    max_leaves=3,
)
contents = st.recursive(
    scalars
    | st.binary()
    | st.complex_numbers()
    | st.sets(st.text() | integers)
    | numpy_values
    | numpy_numbers
    | tensors,
    lambda items: (
        st.lists(items, max_size=4)
        | st.lists(items, max_size=4).map(tuple)
        | st.dictionaries(keys, items, max_size=4)
        | st.dictionaries(st.text(), items, max_size=4).map(collections.OrderedDict)
    ),
    max_leaves=12,
)
json_contents = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False) | st.text(),
    lambda items: st.lists(items) | st.dictionaries(st.text(), items),
    max_leaves=12,
)
unsupported = st.sampled_from([case[0] for case in REFUSED.values()])


@pytest.fixture
def quick_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


examples = functools.partial(settings, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@examples(max_examples=50)
@given(content=contents, plain=json_contents)
def test_whatever_is_saved_comes_back_as_it_was(tmp_path_factory, quick_disk, content, plain):
    root = tmp_path_factory.mktemp("any")
    assert same(saved(root, content), content)
    assert same(saved(root, plain, "state.json"), plain)
    assert json.loads((CheckpointStore(root).latest().path / "state.json").read_text()) == plain


@examples(max_examples=30)
@given(data=st.data())
def test_one_value_that_cannot_be_saved_anywhere_refuses_everything(tmp_path_factory, quick_disk, data):
    root = tmp_path_factory.mktemp("any")
    store = CheckpointStore(root)
    store.commit({"state.pth": {"w": torch.ones(2)}}, {"step": 1})
    before = tree(root)
    value, path = data.draw(unsupported), []
    for _ in range(data.draw(st.integers(0, 5))):
        beside = data.draw(st.lists(contents, max_size=2))
        if data.draw(st.booleans()):
            key = data.draw(st.text("abc", min_size=1))
            value = {**{str(index): item for index, item in enumerate(beside)}, key: value}
        else:
            key, value = str(len(beside)), data.draw(st.sampled_from([list, tuple]))([*beside, value])
        path.insert(0, key)
    with CheckpointWriter(store) as writer:
        for call in (store.commit, writer.save):
            with pytest.raises(StateError) as caught:
                call({"a.pth": {}, "b.pth": value}, {"step": 2})
            assert str(caught.value).startswith(": ".join(filter(None, ["b.pth", ".".join(path)])) + " ")
    assert tree(root) == before
