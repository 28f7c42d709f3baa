"""The structure of one event: which of its numbers share a panel in a figure, and a label."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

MAX_STACKED = 4  # series or channels
MIN_SERIES = 8  # entries
MIN_SIDE = 5  # pixels

Layout = Literal["numbers", "series", "images", "flat"]


def layout_of(event_shape: Sequence[int]) -> tuple[Layout, np.ndarray]:
    """Return the layout of an event of this shape, and its flat indices, one part per row of the first axis.

    numbers: one axis, (d,).
    series: two axes, one of at most 4 entries and one of at least 8, such as (time, species): (species, time).
    images: two axes of at least 5 pixels each, (1, height, width); with a third axis of at most 4 entries, first or
    last, an image for each of these channels: (channels, height, width).
    flat: anything else, (size,).
    Axes of a single entry do not count, so that (1, 32, 32) is one image.
    """
    indices = np.arange(math.prod(event_shape)).reshape([size for size in event_shape if size != 1] or [1])
    shape = indices.shape
    if len(shape) == 1:
        return "numbers", indices
    if len(shape) == 2 and min(shape) <= MAX_STACKED and max(shape) >= MIN_SERIES:
        return "series", indices if shape[0] < shape[1] else indices.T
    if len(shape) == 3 and shape[0] > MAX_STACKED:
        indices = np.moveaxis(indices, 2, 0)
    elif len(shape) == 2:
        indices = indices[None]
    if indices.ndim == 3 and len(indices) <= MAX_STACKED and min(indices.shape[1:]) >= MIN_SIDE:
        return "images", indices
    return "flat", np.arange(indices.size)
