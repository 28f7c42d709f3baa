"""Simulations on disk: an index, and immutable shards, each with the valid rows of one range."""

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
    array (`index` int64, then one float32 field per node) followed by the seed and a checksum; rows of
    its range that it does not contain were invalid. Shards appear complete or not at all.

    The constructor creates a store or continues an existing one: it sets damaged shards aside, so that their
    simulations count as missing. Only the owner of the run may do that; `open` is for readers and changes nothing.
    """

    def __init__(self, directory: Path, seed: int, event_shapes: Mapping[str, Sequence[int]]) -> None:
        index = Index(seed, {name: tuple(event_shapes[name]) for name in sorted(event_shapes)})
        make_directory(directory)
        found = read_index(directory)
        if found not in (None, index):
            raise SimulationError(
                f"{directory}: contains simulations of {found}, not of {index}; use another run directory or delete it"
            )
        write_index(directory, index)
        self._set_index(directory, index)
        self._set_damaged_aside()

    @staticmethod
    def exists(directory: Path) -> bool:
        """Return whether there is a store in `directory`."""
        return read_index(directory) is not None

    @classmethod
    def open(cls, directory: Path) -> "SimulationStore":
        """Open the existing store in `directory` for reading."""
        index = read_index(directory)
        if index is None:
            raise SimulationError(f"{directory / INDEX_FILE}: no such file; expected a directory of simulations")
        store = cls.__new__(cls)
        store._set_index(directory, index)
        return store

    def commit(self, start: int, stop: int, block: Block) -> None:
        """Write the shard for the range durably. Nodes without a field are ignored.

        Raises `SimulationError` if it cannot be written, for example if the disk is full.
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
            raise SimulationError(f"{self.directory}: {error.strerror}; {self.resume_hint()}") from error

    def shards(self) -> list[Shard]:
        """Return the intact shards, sorted by start; warn about damaged ones."""
        whole = []
        for shard in list_shards(self.directory):
            try:
                self._check(shard, shard_info(shard))
                whole.append(shard)
            except DamagedError as error:
                warn_once(f"{error}; +resume=true runs its simulations again")
        return whole

    def missing(self, num_simulations: int) -> list[tuple[int, int]]:
        """Return the ranges below `num_simulations` that no intact shard covers."""
        gaps, covered = [], 0
        for shard in [*self.shards(), Shard(num_simulations, num_simulations, Path())]:
            if covered < min(shard.start, num_simulations):
                gaps.append((covered, min(shard.start, num_simulations)))
            covered = max(covered, shard.stop)
        return gaps

    def counts(self, num_simulations: int | None = None) -> tuple[int, int]:
        """Return the numbers of valid and of invalid simulations on disk (below `num_simulations`)."""
        parts = self._parts(num_simulations)
        num_valid = sum(self._num_rows(shard, part) for shard, part in parts)
        return num_valid, sum(part.stop - part.start for _, part in parts) - num_valid

    def invalid(self, num_simulations: int) -> np.ndarray:
        """Return the indices of invalid simulations on disk below `num_simulations`, in increasing order."""
        parts = self._parts(num_simulations)
        found = [np.setdiff1d(np.arange(p.start, p.stop), self._rows(s, p)["index"]) for s, p in parts]
        return np.concatenate([np.arange(0), *found])

    def load(self, names: Sequence[str], num_simulations: int | None = None) -> dict[str, np.ndarray]:
        """Return the valid simulations (below `num_simulations`): arrays by node name, and their "index".

        Rows are sorted by index, arrays are contiguous. Raises `SimulationError` for a damaged shard.
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

    def resume_hint(self) -> str:
        """Return the end of an error message: what is safe on disk, and how to resume."""
        num_safe = sum(part.stop - part.start for _, part in self._parts(None))
        return f"{num_safe} simulations are safe on disk; fix this, then resume with +resume=true"

    def remove_leftovers(self) -> None:
        """Delete the unfinished files of a killed process."""
        remove_unfinished(self.directory)

    def _set_index(self, directory: Path, index: Index) -> None:
        self.directory = directory
        self.seed, self.event_shapes = index.seed, index.event_shapes
        self.dtype = dtype_of(index.event_shapes)

    def _set_damaged_aside(self) -> None:
        """Rename damaged shards; their simulations will be repeated with the same values."""
        reach: Shard | None = None  # the shard with the largest stop so far
        for shard in list_shards(self.directory):
            try:
                self._check(shard, shard_info(shard))
            except DamagedError as error:
                warn_once(f"{error}; renamed to {set_aside(shard.path).name}, and its simulations are run again")
                continue
            if reach and shard.start < reach.stop:
                self._compare(reach, shard)
            reach = shard if reach is None or shard.stop > reach.stop else reach

    def _compare(self, first: Shard, second: Shard) -> None:
        """Raise `SimulationError` if two shards differ in a simulation: only one can belong to this run."""
        part = Shard(max(first.start, second.start), min(first.stop, second.stop), Path())
        if self._rows(first, part).tobytes() != self._rows(second, part).tobytes():
            raise SimulationError(
                f"{first.path} and {second.path.name}: have different values for simulations {part.start} to "
                f"{part.stop}; remove the one that does not belong to this run"
            )

    def _parts(self, num_simulations: int | None) -> list[tuple[Shard, Shard]]:
        """Return the shards, each with its range clipped so that none overlap and all end by `num_simulations`."""
        parts, covered = [], 0
        for shard in list_shards(self.directory):
            stop = shard.stop if num_simulations is None else min(shard.stop, num_simulations)
            start = max(shard.start, covered)
            if start < stop:
                parts.append((shard, Shard(start, stop, shard.path)))
                covered = stop
        return parts

    def _rows(self, shard: Shard, part: Shard) -> np.ndarray:
        """Return the shard's rows within the part's range."""
        rows, info = self._read_intact(read_shard, shard)
        self._check(shard, info)
        first, last = np.searchsorted(rows["index"], [part.start, part.stop])
        return rows[first:last]

    def _num_rows(self, shard: Shard, part: Shard) -> int:
        return self._read_intact(shard_info, shard).num_rows if part == shard else len(self._rows(shard, part))

    def _read_intact(self, read: Callable[[Shard], T], shard: Shard) -> T:
        """Return the result of `read`; raises `SimulationError` if the shard is damaged."""
        try:
            return read(shard)
        except DamagedError as error:
            raise SimulationError(f"{error}; +resume=true runs its simulations again") from error

    def _check(self, shard: Shard, info: ShardInfo) -> None:
        """Raise `SimulationError` if an intact shard belongs to another store."""
        found = Index(self.seed if info.seed is None else info.seed, info.event_shapes)
        mine = Index(self.seed, self.event_shapes)
        if found != mine:
            raise SimulationError(
                f"{shard.path}: contains simulations of {found}, but its directory belongs to {mine}; "
                "remove it if it does not belong to this run"
            )
