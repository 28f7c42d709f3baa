"""Untrusted checkpoints: nothing outside is read, written, linked or deleted."""

import os

import pytest
import torch
import xxhash

from framework.checkpoint import CheckpointStore, Generation, SaveError, StateError
from framework.checkpoint.durable_file import DIGEST
from framework.checkpoint.manifest import MANIFEST
from framework.errors import CheckpointError, DamagedError
from framework.records import encode

OF_VERSION_0_2 = """{
"step": 7,
"nodes": ["z"],
"files": {"a.json": {"size": 15, "xxh3_128": "aad6db01c34b54a9f2d68e8964f7bab1"}},
"xxh3_128": "29ac68eb5bbf7865d79a5c4d9c06b498"
}
"""
ENTRY = {"size": 3, DIGEST: "0" * 32}


def files(value):
    return {"z/model.pth": {"w": torch.full((3,), float(value))}, "z/checkpoint.json": {"epoch": value}}


def generation_with(path, manifest):
    """Make a generation whose manifest has its own digest, whatever it says."""
    path.mkdir(parents=True)
    (path / MANIFEST).write_bytes(encode(manifest))
    return path


def entry_of(data):
    return {"size": len(data), DIGEST: xxhash.xxh3_128(data).hexdigest()}


def listing(root):
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def test_a_link_to_a_deeper_directory_plants_nothing_above_the_checkpoints(tmp_path):
    """From the link `../../../../yaml.py` is the stranger's file, and from the new checkpoint one of the project's."""
    project, code = tmp_path / "project", b"print('theirs')"
    root = project / "outputs/run/checkpoints"
    root.mkdir(parents=True)
    (root / "deep").mkdir()
    (root / "deep/yaml.py").write_bytes(code)
    generation_with(root / "deep/1/2/3/4", {"files": {"../../../../yaml.py": entry_of(code)}})
    (root / "00000001").symlink_to(root / "deep/1/2/3/4")
    assert (root / "00000001/../../../../yaml.py").read_bytes() == code, "what the manifest says is true"
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        CheckpointStore(root).latest()
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        CheckpointStore(root).commit(files(1), {})
    assert [path.name for path in project.iterdir()] == ["outputs"]


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../secret", "z/../../secret", "..", ".", "", "z//w", "z/", "./w", "a\\b", "a\0b", "a\nb"),
        *("\x1b[2J", "\ud800", "manifest.json", "/".join("abcdefghi")),
    ],
)
def test_a_name_that_is_not_a_plain_path_below_the_checkpoint_is_damage_and_cannot_be_saved(tmp_path, name):
    path = generation_with(tmp_path / "00000001", {"files": {name: ENTRY}})
    with pytest.raises(DamagedError, match=r"manifest\.json: damaged"):
        Generation.open(path)
    with pytest.raises(StateError, match="is not a valid file name in a checkpoint"):
        CheckpointStore(tmp_path).commit({name: {}}, {})


@pytest.mark.parametrize(
    "entry",
    [
        *(None, 5, [], {}, {"size": 3}, {**ENTRY, "more": 1}, {**ENTRY, "size": -1}, {**ENTRY, "size": True}),
        *({**ENTRY, "size": 3.0}, {**ENTRY, "size": "3"}, {**ENTRY, DIGEST: None}, {**ENTRY, DIGEST: "0" * 31}),
        *({**ENTRY, DIGEST: "g" * 32}, {**ENTRY, DIGEST: 0}),
    ],
    ids=repr,
)
def test_an_entry_of_another_form_is_damage(tmp_path, entry):
    path = generation_with(tmp_path / "00000001", {"files": {"z/model.pth": entry}})
    with pytest.raises(DamagedError, match=r"manifest\.json: damaged"):
        Generation.open(path)


@pytest.mark.parametrize("files", [None, 5, [], "z", {"z": {"model.pth": ENTRY}}], ids=repr)
def test_files_of_another_form_are_damage(tmp_path, files):
    with pytest.raises(DamagedError, match=r"manifest\.json: damaged"):
        Generation.open(generation_with(tmp_path / "00000001", {"files": files}))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"null", b"5", b"[1]", b'{"files": {}}', b"\xff\xfe\x00", b'{"files": NaN}', b"1e999"),
        *(b"[" * 100_000, b'{"a":' * 100_000, b'{"a": %s}' % (b"9" * 5000)),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_a_manifest_that_is_anything_else_is_damage(tmp_path, data, caplog):
    (tmp_path / "00000002").mkdir()
    (tmp_path / "00000002" / MANIFEST).write_bytes(data)
    with pytest.raises(DamagedError, match=r"manifest\.json: damaged"):
        Generation.open(tmp_path / "00000002")
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        CheckpointStore(tmp_path).latest()
    assert CheckpointStore(tmp_path).generations() == []


def make_directory(path):
    path.mkdir()


def make_link(path):
    target = path.parent / "elsewhere"
    target.write_bytes(b"")
    path.symlink_to(target)


@pytest.mark.parametrize("make", [make_directory, os.mkfifo, make_link], ids=["directory", "FIFO", "link"])
@pytest.mark.parametrize("name", ["z/model.pth", "z/checkpoint.json", MANIFEST])
def test_what_is_no_file_is_not_waited_for_nor_followed(tmp_path, make, name):
    generation = CheckpointStore(tmp_path).commit(files(1), {})
    (generation.path / name).rename(tmp_path / "moved")
    make(generation.path / name)
    with pytest.raises(DamagedError, match=r"expected a file|is not a regular file"):
        Generation.open(generation.path).verify()


def test_the_same_bytes_behind_a_link_do_not_count(tmp_path):
    generation = CheckpointStore(tmp_path).commit(files(1), {})
    (generation.path / "z").rename(tmp_path / "moved")
    (generation.path / "z").symlink_to(tmp_path / "moved")
    with pytest.raises(DamagedError, match="z: is a link, expected a directory"):
        generation.load("z/checkpoint.json")
    (generation.path / "z").unlink()
    (tmp_path / "moved").rename(generation.path / "z")
    generation.path.rename(tmp_path / "elsewhere")
    generation.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="00000001: is a link, expected a directory"):
        generation.load("z/checkpoint.json")
    with pytest.raises(DamagedError, match="00000001: is a link, expected a directory"):
        CheckpointStore(tmp_path).named("00000001")


def test_a_link_among_the_checkpoints_is_named_and_the_real_one_before_it_taken(tmp_path, caplog):
    store = CheckpointStore(tmp_path / "checkpoints")
    first, second = store.commit(files(1), {}), store.commit(files(2), {})
    second.path.rename(tmp_path / "moved")
    second.path.symlink_to(tmp_path / "moved")
    assert CheckpointStore(store.root).latest() == first
    assert "00000002: is a link, expected a directory; trying the previous checkpoint" in caplog.text


def test_saving_writes_links_and_deletes_through_no_link(tmp_path):
    victim = tmp_path / "victim"
    CheckpointStore(victim).commit(files(7), {})
    (victim / "file").write_text("precious")
    root = tmp_path / "checkpoints"
    store = CheckpointStore(root)
    store.commit(files(1), {})
    before = listing(victim)
    for name in ("latest.tmp", "00000009.tmp", "emergency-00000009.tmp", "00000000"):
        (root / name).symlink_to(victim)
    (root / "latest").unlink()
    (root / "latest").symlink_to(victim / "file")
    (root / "00000008.tmp").mkdir()
    (root / "00000008.tmp" / "z").symlink_to(victim)
    (root / "00000007.tmp").write_text("a file")
    for value in range(2, 6):
        store.commit(files(value), {})
        CheckpointStore(root).commit({"y.json": {}}, {}, emergency=True)
    assert listing(victim) == before
    assert not list(root.glob("*.tmp")), "it removes the links"
    assert (root / "latest").readlink().name == store.latest().path.name
    assert (root / "00000000").is_symlink(), "what it has not made it leaves alone"


def test_a_directory_in_place_of_the_convenience_link_stops_nothing(tmp_path):
    (tmp_path / "latest").mkdir()
    CheckpointStore(tmp_path).commit(files(1), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "latest"]


def test_metadata_entries_have_the_requested_type(tmp_path):
    metadata = {
        "run": {"elapsed_seconds": 3, "id": "a", "loss": float("inf")},
        "nodes": ["z"],
        "step": 2,
        "mixed": ["z", 1],
    }
    generation = CheckpointStore(tmp_path).commit(files(1), metadata)
    assert generation.entry("run.elapsed_seconds", float) == 3.0
    assert generation.entry("run.id", str) == "a"
    assert generation.entry("step", int) == 2
    assert generation.texts("nodes") == ["z"]
    for name, kind in [
        *(("run.id", float), ("run.loss", float), ("run.id.deeper", str), ("absent", str), ("nodes", dict)),
        *(("run.elapsed_seconds", str), ("step", bool)),
    ]:
        with pytest.raises(DamagedError, match=rf"{name} is not a {kind.__name__}"):
            generation.entry(name, kind)
    for name in ("mixed", "step", "absent"):
        with pytest.raises(DamagedError, match=f"{name} is not a list"):
            generation.texts(name)


def test_a_number_too_large_for_a_fact_is_damage(tmp_path):
    path = generation_with(tmp_path / "00000001", {"run": {"elapsed_seconds": 10**400}, "files": {}})
    with pytest.raises(DamagedError, match=r"run\.elapsed_seconds is not a float"):
        Generation.open(path).entry("run.elapsed_seconds", float)


def test_what_a_json_file_holds_is_damage_if_it_cannot_be_parsed(tmp_path):
    data = b"[" * 100_000
    path = generation_with(tmp_path / "00000001", {"files": {"a.json": entry_of(data)}})
    (path / "a.json").write_bytes(data)
    with pytest.raises(DamagedError, match=r"a\.json: damaged \(nested too deeply"):
        CheckpointStore(tmp_path).latest().load("a.json")


def test_a_checkpoint_of_version_0_2_is_read(tmp_path):
    path = tmp_path / "00000001"
    path.mkdir()
    (path / "a.json").write_text('{\n"epoch": 1\n}\n')
    (path / MANIFEST).write_text(OF_VERSION_0_2)
    newest = CheckpointStore(tmp_path).latest()
    assert (newest.load("a.json"), newest.entry("step", int)) == ({"epoch": 1}, 7)


def test_a_file_that_is_lost_everywhere_is_not_saved_again(tmp_path):
    store = CheckpointStore(tmp_path)
    generation = store.commit(files(1), {})
    (generation.path / "z/model.pth").write_bytes(b"other")
    with pytest.raises(SaveError, match=r"because a file of the previous one is lost: .*z/model\.pth: damaged"):
        store.commit({"y.json": {}}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "latest"]
