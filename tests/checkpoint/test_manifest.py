"""Reading manifests and JSON of checkpoints without importing torch."""

import os
import subprocess
import sys
from pathlib import Path

import torch

import framework.checkpoint
from framework.checkpoint import CheckpointStore
from framework.checkpoint.manifest import MANIFEST, Generation, generation_paths, newest_generation


def commit(root, value, **kind):
    content = {"z/model.pth": {"w": torch.full((3,), float(value))}, "z/checkpoint.json": {"epoch": value}}
    return CheckpointStore(root, keep=5).commit(content, {"nodes": ["z"]}, **kind)


def printed_without_torch(code):
    code = f"{code}\nimport sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_manifests_and_json_are_read_without_torch(tmp_path):
    commit(tmp_path, 1)
    code = f"""
import framework.checkpoint
from framework.checkpoint.manifest import Generation, newest_generation
assert framework.checkpoint.Generation is Generation
from pathlib import Path
generation = newest_generation(Path({str(tmp_path)!r}))
generation.verify()
print(generation.load('z/checkpoint.json'))
"""
    assert printed_without_torch(code) == "{'epoch': 1}"


def test_torch_is_loaded_with_the_first_file_in_its_format(tmp_path):
    commit(tmp_path, 7)
    code = f"""
import sys
from pathlib import Path
from framework.checkpoint.manifest import newest_generation
generation = newest_generation(Path({str(tmp_path)!r}))
assert 'torch' not in sys.modules
print(generation.load('z/model.pth')['w'].tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[7.0, 7.0, 7.0]", done.stderr


def test_every_public_name_can_be_imported_and_no_other():
    for name in framework.checkpoint.__all__:
        assert getattr(framework.checkpoint, name).__name__ == name
    assert not hasattr(framework.checkpoint, "unknown")


def test_generations_are_real_directories_oldest_first(tmp_path):
    first, second = commit(tmp_path, 1), commit(tmp_path, 2)
    emergency = commit(tmp_path, 3, emergency=True)
    (tmp_path / "00000009").symlink_to(first.path)
    (tmp_path / "00000008").touch()
    (tmp_path / "00000007.tmp").mkdir()
    assert generation_paths(tmp_path) == [first.path, second.path]
    assert generation_paths(tmp_path, "emergency-") == [emergency.path]
    assert generation_paths(tmp_path / "absent") == []


def test_the_newest_is_the_last_whose_manifest_is_intact(tmp_path):
    assert newest_generation(tmp_path) is None
    first, second = commit(tmp_path, 1), commit(tmp_path, 2)
    assert newest_generation(tmp_path) == second
    (second.path / MANIFEST).write_bytes((second.path / MANIFEST).read_bytes()[:-9])
    assert newest_generation(tmp_path) == first


def test_a_generation_knows_when_it_was_committed(tmp_path):
    path = commit(tmp_path, 1).path
    os.utime(path / MANIFEST, (5, 1_000_000_000.5))
    assert Generation.open(path).committed_at == 1_000_000_000.5
