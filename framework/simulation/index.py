"""`index.json`: the seed and the event shapes of a store. The shards tell both, too, should it get lost."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from framework.errors import DamagedError, SimulationError
from framework.records import read_record, write_record
from framework.simulation.shard_file import dtype_of, list_shards, shard_info, warn_once

INDEX_FILE = "index.json"


@dataclass(frozen=True)
class Index:
    """What all shards of a store have in common; the nodes are in order of their names."""

    seed: int
    event_shapes: dict[str, tuple[int, ...]]

    def __str__(self) -> str:
        return f"seed {self.seed}, {', '.join(f'{name} {shape}' for name, shape in self.event_shapes.items())}"


def read_index(directory: Path) -> Index | None:
    """Return the index of the store in `directory`, by its shards where it is lost; None where no store is.

    Raises `SimulationError` where the shards do not tell, and `UnreadableError`. Writes nothing.
    """
    path = directory / INDEX_FILE
    try:
        return stored_index(directory)
    except FileNotFoundError:
        problem = f"{path}: missing"
    except DamagedError as error:
        problem = str(error)
    found = _index_of_shards(directory, problem)
    if found is None and not problem.endswith("missing"):
        warn_once(f"{problem}; there are no simulations yet, so nothing is lost")
    elif found is not None:
        warn_once(f"{problem}; the simulations tell what was in it: seed {found.seed}")
    return found


def stored_index(directory: Path) -> Index:
    """Return what the file holds; raises `FileNotFoundError`, `DamagedError` and `UnreadableError`."""
    path = directory / INDEX_FILE
    return _parse(path, read_record(path, of_version_02=[("seed", "event_shapes")]))


def write_index(directory: Path, index: Index) -> None:
    """Have the file hold the index, whatever is there instead."""
    path = directory / INDEX_FILE
    with suppress(FileNotFoundError, DamagedError):
        if _parse(path, read_record(path)) == index:
            return
    write_record(path, asdict(index))


def _index_of_shards(directory: Path, problem: str) -> Index | None:
    """Return what all whole shards say; raises `SimulationError` where they do not agree, or do not tell."""
    shards = list_shards(directory)
    found = []
    for shard in shards:
        with suppress(DamagedError):  # the store tells of it
            found.append(shard_info(shard))
    seeds = {info.seed for info in found if info.seed is not None}
    shapes = [info.event_shapes for info in found]
    if not shards:
        return None
    if len(seeds) != 1 or any(s != shapes[0] for s in shapes):
        said = f"say different things: seeds {sorted(seeds)}" if seeds else "do not tell their seed"
        raise SimulationError(
            f"{problem}; the simulations beside it {said}; put it back, or start another run: name=..."
        )
    return Index(seeds.pop(), dict(sorted(shapes[0].items())))


def _parse(path: Path, content: Mapping[str, Any]) -> Index:
    try:
        seed, shapes = content["seed"], content["event_shapes"]
        if type(seed) is not int or any(type(n) is not int or n < 0 for shape in shapes.values() for n in shape):
            raise TypeError("numbers are expected")
        index = Index(seed, {name: tuple(shape) for name, shape in sorted(shapes.items())})
        dtype_of(index.event_shapes)
        return index
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{path}: damaged ({error})") from error
