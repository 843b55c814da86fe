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
    return [not bool(((table <= point).all(axis=1) & (table < point).any(axis=1)).any()) for point in table]
