"""The Pareto front of studies with several objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_front(losses: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other point dominates: it is at most as large in all coordinates and smaller in one.

    Args:
        losses: A loss for each objective, of each point.
    """
    if not losses:
        return []
    table = np.asarray(losses, dtype=np.float64)
    # What dominates a point comes before it in this order, and so does a point of the front that does.
    order = np.lexsort(table.T[::-1])
    front, count, found = np.empty_like(table), 0, [False] * len(table)
    for at in order:
        point, before = table[at], front[:count]
        if not ((before <= point).all(axis=1) & (before < point).any(axis=1)).any():
            front[count], found[at] = point, True
            count += 1
    return found
