"""Simulations on disk: immutable shards, each the valid rows of one range, and an index."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from framework.errors import DamagedError, SimulationError
from framework.files import make_directory, remove_unfinished, replace_file, set_aside
from framework.simulation.block import Block
from framework.simulation.index import INDEX_FILE, Index, read_index, write_index
from framework.simulation.shard_file import (
    Shard,
    ShardInfo,
    dtype_of,
    encode_shard,
    list_shards,
    read_shard,
    shard_info,
    warn_once,
)

T = TypeVar("T")


class SimulationStore:
    """An append-only directory of simulations.

    `index.json` holds the seed and the event shapes. A shard `<start>-<stop>.npy` is a structured
    array (`index` int64, then one float32 field for each node) followed by the seed and a checksum; rows of
    its range that are not in it were invalid. Shards appear complete or not at all.

    To make one is to begin a store, or to go on with it: damaged shards are set aside, so that their simulations
    count as missing. Only the owner of the run may do that; `open` is for readers, and changes nothing.
    """

    def __init__(self, directory: Path, seed: int, event_shapes: Mapping[str, Sequence[int]]) -> None:
        index = Index(seed, {name: tuple(event_shapes[name]) for name in sorted(event_shapes)})
        make_directory(directory)
        found = read_index(directory)
        if found not in (None, index):
            raise SimulationError(
                f"{directory}: holds simulations of {found}, not of {index}; use another run directory or delete it"
            )
        write_index(directory, index)
        self._hold(directory, index)
        self._set_damaged_aside()

    @staticmethod
    def exists(directory: Path) -> bool:
        """Tell whether there is a store in `directory`."""
        return read_index(directory) is not None

    @classmethod
    def open(cls, directory: Path) -> "SimulationStore":
        """Open the store that is in `directory`."""
        index = read_index(directory)
        if index is None:
            raise SimulationError(f"{directory / INDEX_FILE}: no such file; expected a directory of simulations")
        store = cls.__new__(cls)
        store._hold(directory, index)
        return store

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
        try:
            replace_file(self.directory / f"{start}-{stop}.npy", encode_shard(start, stop, self.seed, rows))
        except OSError as error:
            raise SimulationError(f"{self.directory}: {error.strerror}; {self.safe()}") from error

    def shards(self) -> list[Shard]:
        """Return the whole shards, by start; those that are damaged are told of."""
        whole = []
        for shard in list_shards(self.directory):
            try:
                self._check(shard, shard_info(shard))
                whole.append(shard)
            except DamagedError as error:
                warn_once(f"{error}; +resume=true runs its simulations again")
        return whole

    def missing(self, num_simulations: int) -> list[tuple[int, int]]:
        """Return the ranges below `num_simulations` that no whole shard covers."""
        gaps, covered = [], 0
        for shard in [*self.shards(), Shard(num_simulations, num_simulations, Path())]:
            if covered < min(shard.start, num_simulations):
                gaps.append((covered, min(shard.start, num_simulations)))
            covered = max(covered, shard.stop)
        return gaps

    def counts(self, num_simulations: int | None = None) -> tuple[int, int]:
        """Return how many simulations (below `num_simulations`) are on disk: the valid and the invalid ones."""
        parts = self._parts(num_simulations)
        num_valid = sum(self._num_rows(shard, part) for shard, part in parts)
        return num_valid, sum(part.stop - part.start for _, part in parts) - num_valid

    def invalid(self, num_simulations: int) -> np.ndarray:
        """Return the indices of the invalid simulations on disk below `num_simulations`, in order."""
        parts = self._parts(num_simulations)
        found = [np.setdiff1d(np.arange(p.start, p.stop), self._rows(s, p)["index"]) for s, p in parts]
        return np.concatenate([np.arange(0), *found])

    def load(self, names: Sequence[str], num_simulations: int | None = None) -> dict[str, np.ndarray]:
        """Return the valid simulations (below `num_simulations`): arrays by node name, and their "index".

        Rows are sorted by index, arrays are contiguous. A damaged shard is a `SimulationError`.
        """
        num_rows, _ = self.counts(num_simulations)
        fields = ["index", *names]
        arrays = {name: np.empty((num_rows, *self.dtype[name].shape), self.dtype[name].base) for name in fields}
        at = 0
        for shard, part in self._parts(num_simulations):
            rows = self._rows(shard, part)
            for name in fields:
                arrays[name][at : at + len(rows)] = rows[name]
            at += len(rows)
        return arrays

    def safe(self) -> str:
        """Return for an error message what is on disk, and how to go on."""
        num_safe = sum(part.stop - part.start for _, part in self._parts(None))
        return f"{num_safe} simulations are safe in it; mend this, then the same command with +resume=true goes on"

    def remove_leftovers(self) -> None:
        """Delete what a killed process had begun to write."""
        remove_unfinished(self.directory)

    def _hold(self, directory: Path, index: Index) -> None:
        self.directory = directory
        self.seed, self.event_shapes = index.seed, index.event_shapes
        self.dtype = dtype_of(index.event_shapes)

    def _set_damaged_aside(self) -> None:
        """Rename what is damaged; simulating is a function of seed and index, so the same comes again."""
        reach: Shard | None = None  # the one that goes furthest so far
        for shard in list_shards(self.directory):
            try:
                self._check(shard, shard_info(shard))
            except DamagedError as error:
                warn_once(f"{error}; it is {set_aside(shard.path).name} now, and its simulations are run again")
                continue
            if reach and shard.start < reach.stop:
                self._compare(reach, shard)
            reach = shard if reach is None or shard.stop > reach.stop else reach

    def _compare(self, first: Shard, second: Shard) -> None:
        """Raise `SimulationError` where two shards differ in a simulation: only one can be of this run."""
        part = Shard(max(first.start, second.start), min(first.stop, second.stop), Path())
        if self._rows(first, part).tobytes() != self._rows(second, part).tobytes():
            raise SimulationError(
                f"{first.path} and {second.path.name}: hold different simulations {part.start} to {part.stop}; "
                "remove the one that is not of this run"
            )

    def _parts(self, num_simulations: int | None) -> list[tuple[Shard, Shard]]:
        """Return the shards, and their ranges cut so that they do not overlap and end at `num_simulations`."""
        parts, covered = [], 0
        for shard in list_shards(self.directory):
            stop = shard.stop if num_simulations is None else min(shard.stop, num_simulations)
            start = max(shard.start, covered)
            if start < stop:
                parts.append((shard, Shard(start, stop, shard.path)))
                covered = stop
        return parts

    def _rows(self, shard: Shard, part: Shard) -> np.ndarray:
        """Return the rows of the part's range."""
        rows, info = self._whole(read_shard, shard)
        self._check(shard, info)
        first, last = np.searchsorted(rows["index"], [part.start, part.stop])
        return rows[first:last]

    def _num_rows(self, shard: Shard, part: Shard) -> int:
        return self._whole(shard_info, shard).num_rows if part == shard else len(self._rows(shard, part))

    def _whole(self, read: Callable[[Shard], T], shard: Shard) -> T:
        """Return what is read of a shard that must be whole."""
        try:
            return read(shard)
        except DamagedError as error:
            raise SimulationError(f"{error}; +resume=true runs its simulations again") from error

    def _check(self, shard: Shard, info: ShardInfo) -> None:
        """Raise `SimulationError` where a whole shard is of another store."""
        found = Index(self.seed if info.seed is None else info.seed, info.event_shapes)
        mine = Index(self.seed, self.event_shapes)
        if found != mine:
            raise SimulationError(
                f"{shard.path}: holds simulations of {found}, its directory those of {mine}; "
                "remove it if it is not of this run"
            )
