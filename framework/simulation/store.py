"""Simulations on disk: immutable shards, each the valid rows of one range, and an index."""

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from framework.errors import SimulationError
from framework.simulation.commit import commit_file, remove_leftovers
from framework.simulation.draw import Block

_INDEX = "index.json"
_CHECKSUM_LENGTH = len("crc32 00000000\n")


class Shard(NamedTuple):
    """A file with the valid simulations from `start` up to `stop`, not included."""

    start: int
    stop: int
    path: Path


class SimulationStore:
    """An append-only directory of simulations.

    `index.json` holds the seed and the event shapes. A shard `<start>-<stop>.npy` is a structured
    array (`index` int64, then one float32 field for each node) followed by a checksum; rows of
    its range that are not in it were invalid. Shards appear complete or not at all.
    """

    def __init__(self, directory: Path, seed: int, event_shapes: Mapping[str, Sequence[int]]) -> None:
        self.directory = directory
        self.seed = seed
        self.event_shapes = {name: tuple(event_shapes[name]) for name in sorted(event_shapes)}
        self.dtype = np.dtype([("index", "<i8"), *((name, "<f4", shape) for name, shape in self.event_shapes.items())])
        directory.mkdir(parents=True, exist_ok=True)
        index = {"seed": seed, "event_shapes": {name: list(shape) for name, shape in self.event_shapes.items()}}
        if not (directory / _INDEX).exists():
            commit_file(directory / _INDEX, json.dumps(index, indent=2).encode())
        elif (found := _read_index(directory)) != index:
            raise SimulationError(
                f"{directory}: holds simulations of {found}, not of {index}; use another run directory or delete it"
            )

    @staticmethod
    def exists(directory: Path) -> bool:
        """Tell whether there is a store in `directory`."""
        return (directory / _INDEX).exists()

    @classmethod
    def open(cls, directory: Path) -> "SimulationStore":
        """Open the store that is in `directory`."""
        return cls(directory, **_read_index(directory))

    def commit(self, start: int, stop: int, block: Block) -> None:
        """Write the shard for the range; when this returns it is durable. Nodes without a field are left out.

        Raises `SimulationError` when it cannot be written, for example on a full disk.
        """
        rows = np.empty(len(block.index), self.dtype)
        rows["index"] = block.index
        for name, shape in self.event_shapes.items() if len(rows) else ():
            if block.values[name].shape[1:] != shape:
                raise SimulationError(
                    f"graph.{name}: simulations {start} to {stop} have shape {block.values[name].shape[1:]}, "
                    f"earlier ones {shape}; return the same shape every time"
                )
            rows[name] = block.values[name]
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, rows, allow_pickle=False)
        data = buffer.getbuffer()
        try:
            commit_file(self.directory / f"{start}-{stop}.npy", data, _checksum(data))
        except OSError as error:
            raise SimulationError(f"{self.directory}: {error.strerror}; {self.safe()}") from error

    def shards(self) -> list[Shard]:
        """Return the committed shards, by start."""
        ranges = [(path.stem.split("-"), path) for path in self.directory.glob("[0-9]*-*[0-9].npy")]
        return sorted(Shard(int(start), int(stop), path) for (start, stop), path in ranges)

    def missing(self, num_simulations: int) -> list[tuple[int, int]]:
        """Return the ranges below `num_simulations` that no shard covers."""
        gaps, covered = [], 0
        for shard in [*self.shards(), Shard(num_simulations, num_simulations, Path())]:
            if covered < min(shard.start, num_simulations):
                gaps.append((covered, min(shard.start, num_simulations)))
            covered = max(covered, shard.stop)
        return gaps

    def counts(self, num_simulations: int | None = None) -> tuple[int, int]:
        """Return how many simulations (below `num_simulations`) are on disk: the valid and the invalid ones."""
        parts = self._parts(num_simulations)
        num_valid = sum(len(self._rows(part)) for part in parts)
        return num_valid, sum(part.stop - part.start for part in parts) - num_valid

    def invalid(self, num_simulations: int) -> np.ndarray:
        """Return the indices of the invalid simulations on disk below `num_simulations`, in order."""
        parts = self._parts(num_simulations)
        found = [np.setdiff1d(np.arange(part.start, part.stop), self._rows(part)["index"]) for part in parts]
        return np.concatenate([np.arange(0), *found])

    def load(self, names: Sequence[str], num_simulations: int | None = None) -> dict[str, np.ndarray]:
        """Return the valid simulations (below `num_simulations`): arrays by node name, and their "index".

        Rows are sorted by index, arrays are contiguous. A damaged shard is a `SimulationError`.
        """
        parts = self._parts(num_simulations)
        num_rows = sum(len(self._rows(part)) for part in parts)
        fields = ["index", *names]
        arrays = {name: np.empty((num_rows, *self.dtype[name].shape), self.dtype[name].base) for name in fields}
        at = 0
        for part in parts:
            rows = self._rows(part)
            _verify(part.path)
            for name in fields:
                arrays[name][at : at + len(rows)] = rows[name]
            at += len(rows)
        return arrays

    def safe(self) -> str:
        """Return for an error message what is on disk, and how to go on."""
        num_safe = sum(part.stop - part.start for part in self._parts(None))
        return f"{num_safe} simulations are safe in it; mend this, then the same command with +resume=true goes on"

    def remove_leftovers(self) -> None:
        """Delete what a killed process had begun to write."""
        remove_leftovers(self.directory)

    def _parts(self, num_simulations: int | None) -> list[Shard]:
        """Return the shards with ranges cut so that they do not overlap and end at `num_simulations`."""
        parts, covered = [], 0
        for shard in self.shards():
            stop = shard.stop if num_simulations is None else min(shard.stop, num_simulations)
            start = max(shard.start, covered)
            if start < stop:
                parts.append(Shard(start, stop, shard.path))
                covered = stop
        return parts

    def _rows(self, part: Shard) -> np.ndarray:
        """Return the rows of the part's range, memory-mapped."""
        try:
            rows = np.lib.format.open_memmap(part.path, mode="r")
        except (ValueError, EOFError) as error:
            raise _damaged(part.path) from error
        if rows.dtype != self.dtype or part.path.stat().st_size != rows.offset + rows.nbytes + _CHECKSUM_LENGTH:
            raise _damaged(part.path)
        first, last = np.searchsorted(rows["index"], [part.start, part.stop])
        return rows[first:last]


def _read_index(directory: Path) -> dict[str, Any]:
    path = directory / _INDEX
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise SimulationError(f"{path}: no such file; expected a directory of simulations") from None
    except ValueError as error:
        raise SimulationError(f"{path}: damaged; delete {directory}, all of it will be simulated again") from error


def _checksum(data: memoryview) -> bytes:
    return b"crc32 %08x\n" % zlib.crc32(data)


def _verify(path: Path) -> None:
    data = np.memmap(path, mode="r").data
    if _checksum(data[:-_CHECKSUM_LENGTH]) != data[-_CHECKSUM_LENGTH:].tobytes():
        raise _damaged(path)


def _damaged(path: Path) -> SimulationError:
    return SimulationError(f"{path}: damaged; delete this file, its simulations will be run again with +resume=true")
