"""Which levels of which factors a report compares, besides those that claims name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from search.statistics.comparison import Levels
from search.statistics.comparisons import Family
from search.statistics.inference import mean
from search.statistics.losses import Losses
from search.study.claims import Scalar

# The levels of a factor with more levels than this are compared with the best one alone.
MAX_PAIRED_LEVELS = 10
# So many of those comparisons are shown: the levels whose losses are nearest to the best.
MAX_SHOWN_LEVELS = 20


def add_levels(family: Family, grid: Losses) -> list[Levels]:
    """Compare the levels of the factors of a study, but not those that its baselines alone have.

    Args:
        family: Of the study and its baselines.
        grid: The losses of the study.

    Returns:
        What a report lists.
    """
    if grid is family.losses:
        return add_all(family)
    shown = add_all(Family(grid))
    for levels in shown:
        family.add(levels)
    return shown


def add_all(family: Family) -> list[Levels]:
    """Compare the levels of every factor: all pairs of a few levels, or each of many levels with the best one.

    Returns:
        What a report lists.
    """
    losses, shown = family.losses, []
    for factor, levels in losses.factors.items():
        pairs = [Levels(factor, one, other) for one, other in _pairs(losses, factor)]
        for pair in pairs:
            family.add(pair)
        shown += pairs[:MAX_SHOWN_LEVELS] if len(levels) > MAX_PAIRED_LEVELS else pairs
    return shown


def _pairs(losses: Losses, factor: str) -> Iterable[tuple[Scalar, Scalar]]:
    """The pairs of levels to compare, without those that no two cells differ in alone.

    The number of pairs grows with the number of cells, not with its square: 1,000 levels have 499,500 pairs.
    """
    levels, groups = losses.factors[factor], losses.rows_by_rest[factor].values()
    order = {level: index for index, level in enumerate(levels)}
    if len(levels) <= MAX_PAIRED_LEVELS:
        pairs = {pair for rows in groups for pair in itertools.combinations(sorted(rows, key=order.__getitem__), 2)}
        return sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]]))
    by_level: dict[Scalar, list[float]] = {}
    for rows in groups:
        for level, row in rows.items():
            if losses.comparable[row]:
                by_level.setdefault(level, []).append(float(losses.mean[row]))
    ranked = sorted(by_level, key=lambda level: mean(by_level[level]))
    if not ranked:
        return []
    best = ranked[0]
    others = {level for rows in groups if best in rows for level in rows if level != best}
    return [(best, other) for other in ranked if other in others]
