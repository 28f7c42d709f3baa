"""Nodes that come or go between two attempts: those that stay are trained on as if nothing had happened."""

from collections.abc import Mapping, Sequence
from typing import Any

from framework.resume.differences import ABSENT, Change, is_whole_node, plain


def explain_nodes(changes: Sequence[Change], old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say of each node that came or went what becomes of it; return a hint for each that was only renamed."""
    whole = [change for change in changes if change.path[0] == "graph" and is_whole_node(change.path)]
    for change in whole:
        if change.new is ABSENT:
            change.reason = "removed: its files stay"
        else:
            change.reason = "added: training from scratch" if change.new["evidence"] else "added"
    removed = [str(change.path[1]) for change in whole if change.new is ABSENT]
    added = [str(change.path[1]) for change in whole if change.old is ABSENT]
    return [
        f"graph.{b} is graph.{a} under another name? What is trained goes by the name: "
        f"as {a} it goes on, as {b} it begins anew"
        for a in removed
        for b in added
        if _definition(old, a) == _definition(new, b)
    ]


def _definition(config: Mapping[str, Any], name: str) -> str:
    """Return all that defines a node, but for its name."""
    return repr(plain([config["graph"][name], config["priors"].get(name)]))
