"""`index.json`: the seed and event shapes of a store, which can be recovered from the shards if it is lost."""

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
    """The properties that all shards of a store share; nodes are sorted by name."""

    seed: int
    event_shapes: dict[str, tuple[int, ...]]

    def __str__(self) -> str:
        return f"seed {self.seed}, {', '.join(f'{name} {shape}' for name, shape in self.event_shapes.items())}"


def read_index(directory: Path) -> Index | None:
    """Return the index of the store in `directory`, recovered from the shards if it is lost; None if there is no store.

    Raises `SimulationError` if it cannot be recovered, and `UnreadableError`. Writes nothing.
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
        warn_once(f"{problem}; recovered from the simulations: seed {found.seed}")
    return found


def stored_index(directory: Path) -> Index:
    """Return the index in the file; raises `FileNotFoundError`, `DamagedError` and `UnreadableError`."""
    path = directory / INDEX_FILE
    return _parse(path, read_record(path, of_version_02=[("seed", "event_shapes")]))


def write_index(directory: Path, index: Index) -> None:
    """Write the index, replacing the file if it holds anything else."""
    path = directory / INDEX_FILE
    with suppress(FileNotFoundError, DamagedError):
        if _parse(path, read_record(path)) == index:
            return
    write_record(path, asdict(index))


def _index_of_shards(directory: Path, problem: str) -> Index | None:
    """Return the index according to all intact shards; raises `SimulationError` if they differ or do not contain it."""
    shards = list_shards(directory)
    found = []
    for shard in shards:
        with suppress(DamagedError):  # the store reports it
            found.append(shard_info(shard))
    seeds = {info.seed for info in found if info.seed is not None}
    shapes = [info.event_shapes for info in found]
    if not shards:
        return None
    if len(seeds) != 1 or any(s != shapes[0] for s in shapes):
        finding = f"disagree: seeds {sorted(seeds)}" if seeds else "do not contain their seed"
        raise SimulationError(
            f"{problem}; the simulations next to it {finding}; restore it, or start another run: name=..."
        )
    return Index(seeds.pop(), dict(sorted(shapes[0].items())))


def _parse(path: Path, content: Mapping[str, Any]) -> Index:
    try:
        seed, shapes = content["seed"], content["event_shapes"]
        if type(seed) is not int or any(type(n) is not int or n < 0 for shape in shapes.values() for n in shape):
            raise TypeError("expected numbers")
        index = Index(seed, {name: tuple(shape) for name, shape in sorted(shapes.items())})
        dtype_of(index.event_shapes)
        return index
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{path}: damaged ({error})") from error
