"""The differences between two parsed configurations, element by element."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from framework.config.resume_class import INSTRUCTIONS, resume_class
from framework.config.schema import FREE, SHAPE, ResumeClass

KeyPath = tuple[str | int, ...]
Verdict = Literal["", "refused", "allowed", "ignored"]


class _Absent:
    def __repr__(self) -> str:
        return "—"


ABSENT = _Absent()


@dataclass
class Change:
    """A key whose value differs, the effect on the run, and the sources of both values."""

    path: KeyPath
    kind: ResumeClass
    old: Any
    new: Any
    verdict: Verdict = ""
    reason: str = ""
    old_source: str = ""
    new_source: str = ""
    tensors: list[tuple[str, str, str]] = field(default_factory=list)  # name, old and new shape

    @property
    def key(self) -> str:
        """The key as typed on the command line."""
        return ".".join(map(str, self.path))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the keys that differ between two parsed configurations, sorted by class, the most severe first.

    Both are plain containers, `dataclasses.asdict` of a `Config`: durations are in seconds, and omitted keys
    have their defaults. Instructions to a single attempt (`resume`, `overwrite`, ...) are excluded.
    """
    rank = ("shape", "trajectory", "free").index
    changes = [
        Change(path, _kind(path, old, new), before, after)
        for path, before, after in _walk(old, new, ())
        if path[0] not in INSTRUCTIONS
    ]
    return sorted(changes, key=lambda change: rank(change.kind))


def _kind(path: KeyPath, old: Mapping[str, Any], new: Mapping[str, Any]) -> ResumeClass:
    if is_whole_node(path) and (node_of(old, path) is None or node_of(new, path) is None):
        return FREE  # its effects on other nodes appear as changes of their keys
    kind = resume_class(path)
    if kind == FREE and path[0] == "graph" and path[-1] == "observed":
        drawn = all(_is_drawn(str(path[1]), config) for config in (old, new))
        return FREE if drawn else SHAPE  # the observation of a node that is never drawn is part of every simulation
    return kind


def is_whole_node(path: KeyPath) -> bool:
    """Return whether `path` is that of a node or of its prior."""
    return len(path) == 2 and path[0] in ("graph", "priors")


def node_of(config: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any] | None:
    """Return the node in `config` to which `path` belongs, or None."""
    node: Mapping[str, Any] | None = config["graph"].get(path[1])
    return node


def _is_drawn(node: str, config: Mapping[str, Any]) -> bool:
    from_file = config["simulation"]["from_file"] is not None
    return from_file or node in config["priors"] or config["graph"][node]["simulator"] is not None


def _walk(old: Any, new: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any, Any]]:
    """Yield (path, old, new) of every element that differs."""
    if _is_group(old, new) and not _is_node(old, new, path):
        old, new = _mapping(old), _mapping(new)
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _walk(old.get(name, ABSENT), new.get(name, ABSENT), (*path, name))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _walk_lists(old, new, path) if not _equal(old, new) else ()
    elif not _equal(old, new):
        yield path, old, new


def _walk_lists(old: list[Any], new: list[Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any, Any]]:
    from deepdiff import DeepDiff  # importing it takes longer than most diffs
    from deepdiff.helper import NotPresent

    tree = DeepDiff(plain(old), plain(new), view="tree", ignore_nan_inequality=True, threshold_to_diff_deeper=0)
    for items in tree.values():
        for item in items:
            before, after = (ABSENT if isinstance(v, NotPresent) else v for v in (item.t1, item.t2))
            yield (*path, *item.path(output_format="list")), before, after


def _is_group(old: Any, new: Any) -> bool:
    """Return whether both are groups of keys; an absent one counts as an empty group if the other is a group."""
    both = [value for value in (old, new) if value is not None and value is not ABSENT]
    return bool(both) and all(isinstance(value, Mapping) for value in both)


def _is_node(old: Any, new: Any, path: KeyPath) -> bool:
    """Return whether a node is in only one of the two: that is one change, not one for each of its keys."""
    return is_whole_node(path) and (old is ABSENT or new is ABSENT)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _equal(old: Any, new: Any) -> bool:
    return repr(plain(old)) == repr(plain(new))  # unlike ==, distinguishes true from 1, and nan equals itself


def plain(value: Any) -> Any:
    """Return `value` with sorted keys, tuples as lists and whole numbers as integers."""
    if isinstance(value, Mapping):
        return {name: plain(value[name]) for name in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
