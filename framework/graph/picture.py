"""A text drawing of the graph for the terminal, in which each parent's line leads down to its children."""

from collections.abc import Sequence

from framework.graph.node import Node


def picture(nodes: Sequence[Node]) -> str:
    """Return one line per node, parents before children, with a description of the node next to it.

    Where two lines cross without joining, the vertical one is drawn unbroken:

        mu ────┐              prior Uniform, dim 2; inferred from x
        sigma ─│───────┐      prior Uniform, dim 1; inferred from x, mu
               └▶ mid ─┤      simulator smooth
                       └▶ x   simulator observe; observed
    """
    rows = {node.name: row for row, node in enumerate(nodes)}
    columns = _columns(nodes)
    feeds = {node.name: [child.name for child in nodes if node.name in child.parents] for node in nodes}
    lines = [_line(node, nodes, rows, columns, feeds[node.name]) for node in nodes]
    width = max(map(len, lines))
    return "\n".join(f"{line:{width}}   {_note(node)}" for line, node in zip(lines, nodes, strict=True))


def _columns(nodes: Sequence[Node]) -> dict[str, int]:
    """Return the column of each child's vertical line, to the right of every name above it."""
    columns = {}
    end = max(len(node.name) for node in nodes if not node.parents)
    for node in nodes:
        if node.parents:
            columns[node.name] = end + 2
            end += len("  └▶ ") + len(node.name)
    return columns


def _line(node: Node, nodes: Sequence[Node], rows: dict[str, int], columns: dict[str, int], feeds: list[str]) -> str:
    row = rows[node.name]
    above = {columns[n.name] for n in nodes if rows[n.name] >= row and any(rows[p] < row for p in n.parents)}
    joins = {columns[name] for name in feeds}
    start = columns.get(node.name, 0)
    name = f"└▶ {node.name} " if node.parents else f"{node.name} "
    end = max([*columns.values(), 0])
    line = ["│" if column in above else " " for column in range(end + 1)]
    if joins:
        last = max(joins)
        for column in range(start + len(name), last + 1):
            if column in joins:
                line[column] = {(0, 0): "┬", (0, 1): "┐", (1, 0): "┼", (1, 1): "┤"}[column in above, column == last]
            elif column not in above:
                line[column] = "─"
    text = "".join(line)
    return f"{text[:start]}{name}{text[start + len(name) :]}".rstrip()


def _note(node: Node) -> str:
    if node.prior is not None:
        kind = f"prior {type(node.prior).__name__}, dim {node.prior.dim}"
    elif node.is_simulated:
        target = getattr(node.simulator, "func", node.simulator)  # a function with bound arguments
        kind = f"simulator {getattr(target, '__name__', type(target).__name__)}"
    else:
        kind = "presimulated" if node.presimulated else "covariate"
    notes = [kind]
    if node.is_inferred:
        notes.append(f"inferred from {', '.join(node.evidence)}")
    if node.is_drawn and node.observed is not None:
        notes.append("observed")
    return "; ".join(notes)
