"""The style of all figures.

One colour per meaning (Okabe and Ito's palette, safe for colour-blind readers): the model is blue, the truth or
the observation vermillion. Only `Figure` is used, never pyplot, so nothing is global and no display is needed.
"""

from typing import Any

from matplotlib import rc_context

MODEL = "#0072B2"
TRUTH = "#D55E00"
SECOND = "#E69F00"
MUTED = "#666666"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#333333",
    "axes.axisbelow": True,
    "axes.formatter.limits": (-3, 4),
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.titlesize": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}

styled = rc_context(STYLE)


def plain(text: str) -> str:
    """Escape dollar signs in a user's name, which matplotlib would interpret as mathematics."""
    return text.replace("$", r"\$")


def fitted(name: str, inches: float, points: float = 10) -> str:
    """Return a name ready to draw that fits into the width; names that are too long lose their middle."""
    room = max(int(72 * inches / (0.6 * points)), 5)  # 0.6: the usual ratio of a character's width to its size
    if len(name) > room:
        name = f"{name[: room // 2]}…{name[-(room - room // 2 - 1) :]}"
    return plain(name)
