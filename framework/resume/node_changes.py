"""Nodes added or removed between two attempts; the training of all other nodes is unaffected."""

from collections.abc import Mapping, Sequence
from typing import Any

from framework.resume.differences import ABSENT, Change, is_whole_node, plain


def explain_nodes(changes: Sequence[Change], old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Set the reason of each added or removed node; return a hint for each that may only be renamed."""
    whole = [change for change in changes if change.path[0] == "graph" and is_whole_node(change.path)]
    for change in whole:
        if change.new is ABSENT:
            change.reason = "removed: its files are kept"
        else:
            change.reason = "added: training from scratch" if change.new["evidence"] else "added"
    removed = [str(change.path[1]) for change in whole if change.new is ABSENT]
    added = [str(change.path[1]) for change in whole if change.old is ABSENT]
    return [
        f"is graph.{b} graph.{a} under another name? Weights are stored by name: "
        f"as {a} its training resumes, as {b} it starts from scratch"
        for a in removed
        for b in added
        if _definition(old, a) == _definition(new, b)
    ]


def _definition(config: Mapping[str, Any], name: str) -> str:
    """Return everything that defines a node except its name."""
    return repr(plain([config["graph"][name], config["priors"].get(name)]))
