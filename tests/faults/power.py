"""What a disk may hold after a power cut: a model of files and names, and of what was brought to disk of them.

A file's bytes are certain once it was fsynced, a name once its directory was. What else is there is chance, except for
this: changes of the names in one directory survive in the order in which they were made, a rename as a whole.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.calls import Call

LOST, PART, ZEROS, ALL = "lost", "part", "zeros", "all"  # what became of bytes that were not fsynced

State = dict[str, tuple[str, object]]  # by path: a directory, a link and its target, a file's bytes or its other name


@dataclass(eq=False)
class _Node:
    """A file, link or directory, as programs see it and as it is on disk for certain."""

    kind: str
    data: bytes = b""
    certain_data: bytes = b""
    target: str = ""
    names: dict[str, "_Node"] = field(default_factory=dict)
    certain_names: dict[str, "_Node"] = field(default_factory=dict)


@dataclass(eq=False)
class _Change:
    """Names that come, go or move at once; certain when all of the directories were fsynced."""

    edits: list[tuple[_Node, str, _Node | None]]
    awaits: set[_Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.awaits = {directory for directory, _, _ in self.edits}


class Disk:
    """Replays the calls that were recorded below `root`, which holds now what it held before them."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._pending: list[_Change] = []
        self._rng = random.Random(0)
        self._top = _node_of(Path(self._root), {})

    def apply(self, call: Call) -> None:
        """Take one more call into account."""
        paths, node = call.paths, self._find(call.paths[0])
        if call.kind == "open" and call.is_new and node is None:
            self._change((paths[0], _Node("file")))
        elif call.kind in ("open", "truncate") and node and (call.is_cut or call.kind == "truncate"):
            node.data = node.data[: call.offset].ljust(call.offset, b"\0")
        elif call.kind == "write" and node:
            start, end = node.data[: call.offset].ljust(call.offset, b"\0"), call.offset + len(call.data)
            node.data = start + call.data + node.data[end:]
        elif call.kind == "sync" and node:
            self._sync(node)
        elif call.kind == "mkdir":
            self._change((paths[0], _Node("directory")))
        elif call.kind == "symlink":
            self._change((paths[0], _Node("link", target=paths[1])))
        elif call.kind == "link":
            self._change((paths[1], node))
        elif call.kind in ("unlink", "rmdir"):
            self._change((paths[0], None))
        elif call.kind == "rename":
            self._change((paths[0], None), (paths[1], node))

    def states(self, rng: random.Random) -> Iterator[State]:
        """Yield several states that the disk may be found in; the first holds only what is certain."""
        num = len(self._pending)
        self._rng = rng
        for kept, fate in [(0, LOST), (num, LOST), (num, PART), (num, ZEROS), (num, ALL), (rng.randint(0, num), LOST)]:
            yield self._state(self._pending[:kept], lambda fate=fate: fate)
        kept_of = {directory: rng.randint(0, num) for change in self._pending for directory in change.awaits}
        chosen = [c for at, c in enumerate(self._pending) if all(at < kept_of[d] for d in c.awaits)]
        yield self._state(chosen, lambda: rng.choice([LOST, PART, ZEROS, ALL]))

    def _state(self, changes: list[_Change], choose_fate: Callable[[], str]) -> State:
        names: dict[_Node, dict[str, _Node]] = {}
        for change in changes:
            _edit(change, lambda directory: names.setdefault(directory, dict(directory.certain_names)))
        state: State = {}
        first_name: dict[_Node, str] = {}

        def walk(directory: _Node, prefix: str) -> None:
            for name, node in sorted(names.get(directory, directory.certain_names).items()):
                path = f"{prefix}{name}"
                if node.kind == "directory":
                    state[path] = ("directory", None)
                    walk(node, f"{path}/")
                elif node.kind == "link":
                    state[path] = ("link", node.target)
                elif node in first_name:
                    state[path] = ("name", first_name[node])
                else:
                    first_name[node] = path
                    state[path] = ("file", self._after(node, choose_fate()))

        walk(self._top, "")
        return state

    def _after(self, node: _Node, fate: str) -> bytes:
        """Return what a file may be found to hold."""
        certain, data = node.certain_data, node.data
        if fate == ALL or data == certain:
            return data
        if fate == PART:
            shorter, longer = sorted((len(certain), len(data)))
            return data[: self._rng.randint(shorter, longer)]
        return certain if fate == LOST else certain[: len(data)].ljust(len(data), b"\0")

    def _change(self, *edits: tuple[str, _Node | None]) -> None:
        change = _Change([(self._find(os.path.dirname(p)), os.path.basename(p), node) for p, node in edits])  # noqa: PTH119,PTH120
        _edit(change, lambda directory: directory.names)
        self._pending.append(change)

    def _sync(self, node: _Node) -> None:
        node.certain_data = node.data
        for change in self._pending:
            change.awaits.discard(node)
            if not change.awaits:
                _edit(change, lambda directory: directory.certain_names)
        self._pending = [change for change in self._pending if change.awaits]

    def _find(self, path: str) -> _Node | None:
        """Return the file, link or directory of that name; None where there is none, or it is not below the root."""
        if path != self._root and not path.startswith(f"{self._root}/"):
            return None
        node: _Node | None = self._top
        for name in path[len(self._root) :].split("/"):
            if name and node:
                node = node.names.get(name)
        return node


def write_state(state: State, root: Path) -> None:
    """Make the files and names of a state in a directory that does not exist."""
    root.mkdir()
    for name, (kind, content) in state.items():
        path = root / name
        if kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(str(content))
        elif kind == "name":
            os.link(root / str(content), path)
        else:
            assert isinstance(content, bytes)
            path.write_bytes(content)


def _edit(change: _Change, names_of: Callable[[_Node], dict[str, _Node]]) -> None:
    for directory, name, node in change.edits:
        if node is None:
            names_of(directory).pop(name, None)
        else:
            names_of(directory)[name] = node


def _node_of(path: Path, by_inode: dict[int, _Node]) -> _Node:
    """Return what is on disk now, all of it certain; several names of one file stay that."""
    if path.is_symlink():
        return _Node("link", target=os.readlink(path))  # noqa: PTH115
    if path.is_dir():
        names = {below.name: _node_of(below, by_inode) for below in sorted(path.iterdir())}
        return _Node("directory", names=names, certain_names=dict(names))
    inode = path.stat().st_ino
    if inode not in by_inode:
        data = path.read_bytes()
        by_inode[inode] = _Node("file", data, data)
    return by_inode[inode]
