"""A range for an axis that one bad value does not stretch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

# A value is far away if it lies beyond the middle half of the values by more than so many widths of that half.
FAR = 6.0
MARGIN = 0.05


def robust_range(values: Sequence[float]) -> tuple[tuple[float, float], int]:
    """The range of finite values with a margin, without those that are far away, and the number of these.

    Args:
        values: At least one; of a size whose sums are finite.
    """
    found = np.array([value for value in values if math.isfinite(value)])
    if not len(found):
        return (0.0, 1.0), 0
    lower, upper = np.quantile(found, (0.25, 0.75))
    reach = FAR * (upper - lower)
    near = found[(found >= lower - reach) & (found <= upper + reach)] if reach > 0 else found
    low, high = float(near.min()), float(near.max())
    # A range that is cut must become much shorter; else everything is shown.
    if (found.max() - found.min()) < 2 * (high - low):
        low, high = float(found.min()), float(found.max())
    margin = (high - low) * MARGIN if high > low else max(abs(high), 1.0) * MARGIN
    return (low - margin, high + margin), int(((found < low) | (found > high)).sum())


def parts_within(points: Sequence[tuple[float, float]], low: float, high: float) -> list[list[tuple[float, float]]]:
    """A line through points, cut where it leaves a range of y: the parts inside of it.

    Args:
        points: x and y, in the order of the line.
    """
    parts: list[list[tuple[float, float]]] = []
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        # The shares of this piece at which it enters and leaves the range.
        ends = sorted(((low - y) / (to_y - y), (high - y) / (to_y - y))) if to_y != y else [0.0, 1.0]
        enter, leave = max(0.0, ends[0]), min(1.0, ends[1])
        if enter > leave or (to_y == y and not low <= y <= high):
            continue
        first, last = ((x + share * (to_x - x), y + share * (to_y - y)) for share in (enter, leave))
        if enter > 0 or not parts or parts[-1][-1] != (x, y):
            parts.append([first])
        parts[-1].append((to_x, to_y) if leave == 1 else last)
    return parts
