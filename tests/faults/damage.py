"""What can become of a file: each kind of damage is done in place, so that it counts for all names of the file."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path


def _flip(path: Path, rng: random.Random) -> None:
    """Change one bit of a byte; in text one that leaves it text, where there is such a byte."""
    data = bytearray(path.read_bytes())
    digits = [at for at, byte in enumerate(data) if byte in b"0123456789"]
    is_text = path.suffix in (".json", ".jsonl", ".yaml", ".log")
    at = rng.choice(digits) if digits and is_text and rng.random() < 0.7 else rng.randrange(max(len(data), 1))
    if data:
        data[at] ^= 1 << (0 if is_text else rng.randrange(8))
    _overwrite(path, bytes(data))


def _truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(max(path.stat().st_size, 1)))


def _empty(path: Path, rng: random.Random) -> None:
    os.truncate(path, 0)


def _zeros(path: Path, rng: random.Random) -> None:
    _overwrite(path, bytes(path.stat().st_size))


def _garbage(path: Path, rng: random.Random) -> None:
    _overwrite(path, rng.randbytes(path.stat().st_size))


def _directory(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _missing(path: Path, rng: random.Random) -> None:
    path.unlink()


def _link_to_copy(path: Path, rng: random.Random) -> None:
    copy = path.parents[len(path.parts) - 2 - path.parts.index("outputs")] / "copy of a file"
    shutil.copy2(path, copy, follow_symlinks=False)
    path.unlink()
    path.symlink_to(copy)


def _link_to_nothing(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _forbidden(path: Path, rng: random.Random) -> None:
    path.chmod(0)


def _overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "one bit flipped": _flip,
    "another bit flipped": _flip,
    "a third bit flipped": _flip,
    "truncated": _truncate,
    "empty": _empty,
    "zeros": _zeros,
    "garbage": _garbage,
    "a directory": _directory,
    "missing": _missing,
    "a link to a copy": _link_to_copy,
    "a link to nothing": _link_to_nothing,
    "a pipe": _pipe,
    "forbidden": _forbidden,
}
OF_LINKS = {"a directory", "missing", "a link to nothing", "a pipe"}


def damages_of(path: Path) -> list[str]:
    """Return the kinds of damage that can be done to a file or link."""
    return [kind for kind in DAMAGES if not path.is_symlink() or kind in OF_LINKS]
