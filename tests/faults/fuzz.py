"""Run directories that something else has written to: each a function of its seed alone."""

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

_DIGEST = "xxh3_128"
_DEEP = "[" * 100_000 + "]" * 100_000
VALUES = [
    *("null", "[]", "{}", "[1]", '""', '"text"', "true", "-1", "0", "1e999", "-1e999", "NaN", "0.5", "9" * 400),
    *('"2026-01-01"', '"0001-01-01T00:00:00"', '"../../x"', '"\\udcff"', '"\\u0000"', '"[red]x"', '{"a": {"b": [1]}}'),
    *('"%s"' % ("x" * 5000), "[null, null]", "1e308", "18446744073709551616", '"1"', '"NaN"', '"/"', _DEEP),
]
NAMES = [
    *(
        "0-1-2.npy",
        "-1-5.npy",
        "5-1.npy",
        "0-99999999999999999999.npy",
        "a-b.npy",
        "index.json",
        "1e5.json",
        "000.json",
    ),
    *(
        "999999999999.json",
        "-01.json",
        "٣٣٣.json",
        "00000099",
        "00000099.tmp",
        "٠٠٠٠٠٠٠٩",
        "99999999",
        "emergency-00000007",
    ),
    *(
        "emergency-x",
        "latest.tmp",
        "manifest.json",
        "checkpoint.json",
        ".hidden",
        "a\nb",
        "[red]x",
        "x" * 250,
        " ",
        "~",
    ),
    *("job.json", "exit.json", "stuck", "source.json", "run.json", "attempts", "lease", "\udcff.json", "\udcff"),
]


def damage(run_dir: Path, seed: object) -> list[str]:
    """Do one to four things to a run directory; return what."""
    rng = random.Random(str(seed))
    return [rng.choice(_KINDS)(run_dir, rng) for _ in range(rng.choice([1, 1, 2, 4]))]


def _value(run_dir: Path, rng: random.Random) -> str:
    """Replace a value in a JSON file, whose digest is that of the new content half of the time."""
    path = _choose(run_dir, rng, ".json", ".jsonl")
    if path is None:
        return "nothing"
    value = rng.choice(VALUES)
    try:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = rng.randrange(len(lines))
        content = json.loads(lines[at])
    except (ValueError, OSError, LookupError, RecursionError):
        return "nothing"
    where = _replace_one(content, rng)
    lines[at] = _encode(content, value, rng.random() < 0.5) + ("\n" if path.suffix == ".jsonl" else "")
    _write(path, "\n".join(lines))
    return f"{path.relative_to(run_dir)}: {where} = {value[:40]}"


def _whole(run_dir: Path, rng: random.Random) -> str:
    """Have a JSON file, or a line of one, be another value altogether."""
    path, value = _choose(run_dir, rng, ".json", ".jsonl", ".yaml"), rng.choice(VALUES)
    if path is None:
        return "nothing"
    before = path.read_text(errors="replace") if path.suffix == ".jsonl" and rng.random() < 0.7 else ""
    _write(path, f"{before}{value}\n")
    return f"{path.relative_to(run_dir)} {'ends with' if before else '='} {value[:40]}"


def _setting(run_dir: Path, rng: random.Random) -> str:
    """Replace a value of config.yaml."""
    path = run_dir / "config.yaml"
    if not path.is_file() or path.is_symlink():
        return "nothing"
    lines = path.read_text(errors="replace").splitlines()
    at = rng.randrange(len(lines)) if lines else 0
    value = rng.choice(
        [*VALUES[:-1], "!!python/object/apply:os.system [touch canary]", "&a [*a, *a]", "${name}", "${oc.env:HOME}"]
    )
    if lines:
        lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    _write(path, "\n".join(lines))
    return f"config.yaml: {lines[at][:60] if lines else ''}"


def _stray(run_dir: Path, rng: random.Random) -> str:
    """Put something there whose name looks as if it belonged, or not at all."""
    directory = rng.choice([run_dir, *(p for p in run_dir.rglob("*") if p.is_dir() and not p.is_symlink())])
    path = directory / rng.choice(NAMES)
    if path.exists() or path.is_symlink():
        return "nothing"
    kind = rng.choice(_STRAY)
    try:
        kind(path, rng, run_dir)
    except (OSError, UnicodeError):
        return "nothing"
    return f"{kind.__name__.strip('_')} {str(path.relative_to(run_dir))!r}"


def _instead(run_dir: Path, rng: random.Random) -> str:
    """Put something else in the place of a file or directory."""
    places = [p for p in run_dir.rglob("*") if p.parent == run_dir or rng.random() < 0.3]
    if not places:
        return "nothing"
    path, kind = rng.choice(sorted(places)), rng.choice(_STRAY)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    try:
        kind(path, rng, run_dir)
    except OSError:
        return f"missing {path.relative_to(run_dir)}"
    return f"{kind.__name__.strip('_')} instead of {path.relative_to(run_dir)}"


def _forbidden(run_dir: Path, rng: random.Random) -> str:
    """Forbid to read something."""
    path = rng.choice(sorted(p for p in run_dir.rglob("*") if not p.is_symlink()) or [run_dir])
    path.chmod(0)
    return f"forbidden {path.relative_to(run_dir)}"


def _moved(run_dir: Path, rng: random.Random) -> str:
    """Have two files change places."""
    files = sorted(p for p in run_dir.rglob("*") if p.is_file() and not p.is_symlink())
    if len(files) < 2:
        return "nothing"
    a, b = rng.sample(files, 2)
    a.rename(run_dir / ".between")
    b.rename(a)
    (run_dir / ".between").rename(b)
    return f"{a.relative_to(run_dir)} ↔ {b.relative_to(run_dir)}"


def _garbage(path: Path, rng: random.Random, run_dir: Path) -> None:
    path.write_bytes(rng.randbytes(rng.choice([0, 1, 500])))


def _json(path: Path, rng: random.Random, run_dir: Path) -> None:
    _write(path, rng.choice(VALUES))


def _copy(path: Path, rng: random.Random, run_dir: Path) -> None:
    shutil.copy(rng.choice(sorted(p for p in run_dir.rglob("*") if p.is_file()) or [Path(__file__)]), path)


def _directory(path: Path, rng: random.Random, run_dir: Path) -> None:
    (path / rng.choice(NAMES[:20])).mkdir(parents=True)


def _pipe(path: Path, rng: random.Random, run_dir: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, rng: random.Random, run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _loop(path: Path, rng: random.Random, run_dir: Path) -> None:
    path.symlink_to(rng.choice([path.name, ".", "..", str(run_dir), "/dev/zero", "/proc/self/mem", "/nothing"]))


def _large(path: Path, rng: random.Random, run_dir: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 28)


def _deep(path: Path, rng: random.Random, run_dir: Path) -> None:
    (path / "/".join(["d"] * 300)).mkdir(parents=True)


_KINDS: list[Callable[[Path, random.Random], str]]
_KINDS = [
    _value,
    _value,
    _value,
    _value,
    _whole,
    _whole,
    _setting,
    _stray,
    _stray,
    _instead,
    _instead,
    _forbidden,
    _moved,
]
_STRAY = [_garbage, _json, _copy, _directory, _pipe, _socket, _loop, _loop, _large, _deep]


def _choose(run_dir: Path, rng: random.Random, *endings: str) -> Path | None:
    found = sorted(p for p in run_dir.rglob("*") if p.suffix in endings and p.is_file() and not p.is_symlink())
    outer = [path for path in found if "checkpoints" not in path.parts]
    return rng.choice(rng.choice([outer or found, found])) if found else None


def _replace_one(content: Any, rng: random.Random) -> str:
    """Put a mark in the place of a random value, and return where."""
    where, parent, key = [], None, None
    while isinstance(content, dict | list) and content and (parent is None or rng.random() < 0.7):
        parent = content
        key = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
        where.append(str(key))
        content = parent[key]
    if parent is not None:
        parent[key] = "@@"
    return ".".join(where)


def _encode(content: Any, value: str, with_digest: bool) -> str:
    """Return the JSON with the value where the mark is, and perhaps with a digest that is right."""
    if with_digest and isinstance(content, dict) and _DIGEST in content and value is not _DEEP:
        del content[_DIGEST]
        content = json.loads(json.dumps(content).replace('"@@"', value))
        content[_DIGEST] = xxhash.xxh3_128(json.dumps(content).encode()).hexdigest()
    return json.dumps(content).replace('"@@"', value)


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
