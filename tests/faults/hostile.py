"""Run directories that somebody has prepared: to have a command write elsewhere, or run a program."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import yaml

_DIGEST = "xxh3_128"
LAYOUT = ["attempts", "checkpoints", "simulations", "samples", "samples/posterior", "report", "lease"]
FILES = ["train.log", "metrics.jsonl", "config.yaml", "run.json", "attempts/001.json", "observed.npz", "truth.npz"]
FILES += ["lease/000001.json", "simulations/index.json", "simulations/imported.json", "attempts/stuck"]
PLACES = ["graph.x.simulator", "priors.a", "network", "embedding", "optimizer", "optimizer.scheduler", "tracking.jsonl"]
PROGRAMS = [
    {"_target_": "subprocess.Popen", "args": ["touch", "ran"]},
    {"_target_": "os.system", "command": "touch ran"},
    {"_target_": "builtins.exec", "_args_": ["open('ran', 'w')"]},
    {"_target_": "pathlib.Path.touch", "_args_": ["ran"]},
    {"_target_": "simulator.torch.os.system", "command": "touch ran"},
    {"_target_": "torch.utils.cpp_extension.subprocess.Popen", "args": ["touch", "ran"]},
]


class _Touch:
    def __reduce__(self):
        return os.system, ("touch ran",)


def redirect_generation(run_dir: Path, outside: Path) -> None:
    """The newest checkpoint is a link to a deeper place, and names a file outside of it."""
    deep = outside / "1/2/3/4"
    newest = _generations(run_dir)[-1]
    shutil.copytree(newest, deep)
    (outside / "yaml.py").write_text("open('ran', 'w')")
    (run_dir / "checkpoints" / f"{int(newest.name) + 1:08d}").symlink_to(deep)
    _enter(deep, "../../../../yaml.py", outside / "yaml.py")


def leave_generation(run_dir: Path, outside: Path) -> None:
    """The newest checkpoint is a directory, and names files outside of it."""
    newest = _generations(run_dir)[-1]
    for name in ("../../../../yaml.py", str(outside / "yaml.py"), "a/../../../x.py"):
        (outside / "yaml.py").write_text("open('ran', 'w')")
        _enter(newest, name, outside / "yaml.py")


def link_temporaries(run_dir: Path, outside: Path) -> None:
    """Each name that an unfinished file might have is a link, to a file or to where none is."""
    directories = [run_dir, *(run_dir / name for name in LAYOUT)]
    names = {
        path.relative_to(run_dir) for path in run_dir.rglob("*") if path.is_file() and "0" not in path.parts[-2:-1]
    }
    names |= {Path(name) for name in ("attempts/002.json", "report/report.html", "report/summary.json")}
    names |= {Path(name) for name in ("samples/posterior/a.npz", "samples/posterior-2/a.npz", "checkpoints/latest")}
    for directory in directories:
        directory.mkdir(exist_ok=True)
    for number, name in enumerate(sorted(names)):
        path = run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        forms = [f".{path.name}.tmp", f"{path.name}.tmp", f".{path.stem}.tmp{path.suffix}", f"{path.stem}.tmp"]
        for form in (*forms, f"{path.name}~", f".{path.name}.{os.getpid()}.tmp", ".listing.tmp"):
            target = outside / ("canary" if number % 2 else f"new-{number}")
            if not (path.parent / form).is_symlink():
                (path.parent / form).symlink_to(target)


def link_directory(name: str) -> Callable[[Path, Path], None]:
    """A directory of the layout is a link to one elsewhere."""

    def plant(run_dir: Path, outside: Path) -> None:
        path, target = run_dir / name, outside / f"linked {path_name(name)}"
        if path.exists():
            shutil.move(path, target)
        else:
            target.mkdir()
            path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)

    return plant


def link_file(name: str) -> Callable[[Path, Path], None]:
    """A file of the layout is a link to one elsewhere."""

    def plant(run_dir: Path, outside: Path) -> None:
        path, target = run_dir / name, outside / f"linked {path_name(name)}"
        if path.exists():
            shutil.move(path, target)
        else:
            target.write_text("")
        path.symlink_to(target)

    return plant


def path_name(name: str) -> str:
    return name.replace("/", " ")


def call_program(place: str, program: dict[str, Any]) -> Callable[[Path, Path], None]:
    """A `_target_` of the run's config is a program, in every record that has the config, digests and all."""

    def change(config: dict[str, Any]) -> None:
        *parents, last = place.split(".")
        for name in parents:
            config = config[name]
        config[last] = dict(program)

    def plant(run_dir: Path, outside: Path) -> None:
        path = run_dir / "config.yaml"
        config = yaml.safe_load(path.read_text())
        change(config)
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        path.write_text(text)
        _rewrite(run_dir / "run.json", lambda entries: entries.update(config_digest=_digest(text)))
        for record in (run_dir / "attempts").glob("*.json"):
            _rewrite(record, lambda entries: change(entries["config"]) if "config" in entries else None)
        for generation in _generations(run_dir):
            _rewrite(generation / "config.json", change)
            _enter(generation, "config.json", generation / "config.json")

    return plant


def pickle_weights(run_dir: Path, outside: Path) -> None:
    """Weights are a pickle that runs a program, with the right digest in the manifest."""
    for generation in _generations(run_dir):
        for path in generation.rglob("*.pth"):
            path.unlink()
            path.write_bytes(pickle.dumps(_Touch()))
            _enter(generation, str(path.relative_to(generation)), path)


def pickle_arrays(run_dir: Path, outside: Path) -> None:
    """Arrays hold objects: observations, samples and simulations."""
    objects = np.array([_Touch()], dtype=object)
    for name in ("observed.npz", "truth.npz", "samples/posterior/a.npz"):
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(run_dir / name, x=objects, a=objects, samples=objects)
    for path in (run_dir / "simulations").glob("*.npy"):
        np.save(path, objects)


PLANTS: dict[str, Callable[[Path, Path], None]] = {
    "a checkpoint that is a link": redirect_generation,
    "a checkpoint that leaves itself": leave_generation,
    "links for unfinished files": link_temporaries,
    **{f"{name}/ is a link": link_directory(name) for name in LAYOUT},
    **{f"{name} is a link": link_file(name) for name in FILES},
    **{f"{place} is subprocess.Popen": call_program(place, PROGRAMS[0]) for place in PLACES},
    **{f"priors.a is {program['_target_']}": call_program("priors.a", program) for program in PROGRAMS[1:]},
    **{f"graph.x.simulator is {p['_target_']}": call_program("graph.x.simulator", p) for p in PROGRAMS[1:]},
    "weights that are a pickle": pickle_weights,
    "arrays of objects": pickle_arrays,
}


def _generations(run_dir: Path) -> list[Path]:
    return sorted(p for p in (run_dir / "checkpoints").glob("[0-9]" * 8) if not p.is_symlink())


def _digest(text: str) -> str:
    return xxhash.xxh3_128(text.encode()).hexdigest()


def _enter(generation: Path, name: str, path: Path) -> None:
    """Have the manifest name a file, with its size and digest."""
    data = path.read_bytes()
    entry = {"size": len(data), _DIGEST: xxhash.xxh3_128(data).hexdigest()}
    _rewrite(generation / "manifest.json", lambda manifest: manifest["files"].update({name: entry}))


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file, and its digest of itself if it has one."""
    content = json.loads(path.read_text())
    own = content.pop(_DIGEST, None)
    change(content)
    if own is not None:
        content[_DIGEST] = _digest(json.dumps(content))
    path.unlink()  # its other names stay as they are
    path.write_text(json.dumps(content))
