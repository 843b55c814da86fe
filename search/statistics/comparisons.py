"""Comparisons: which differences between the levels of a factor are larger than chance explains."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from search.statistics.inference import ALPHA, MAX_SEEDS_NEEDED, Floats, Paired, adjusted, paired
from search.statistics.losses import Losses
from search.storage.values import canonical
from search.study.claims import Scalar
from search.study.formatting import loss_text

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "cannot tell"
# The levels of a factor with more levels than this are compared with the best one alone.
MAX_PAIRED_LEVELS = 10
# So many of those comparisons are shown: the levels whose losses are nearest to the best.
MAX_SHOWN_LEVELS = 20

Levels = tuple[str, Scalar, Scalar]  # a factor and two levels of it


@dataclass(frozen=True)
class Comparison:
    """Two levels of one factor, over all pairs of cells that differ in the factor alone, on the same seeds.

    Attributes:
        factor: The axis, or "cell" if two single cells are compared.
        better, worse: The two levels, or cells; `better` has the lower mean loss, which may be the higher mean value.
        pairs, agree: The number of matched pairs of trials, and of those in which `better` is lower.
        cells, cells_agree: The same numbers for matched pairs of cells, by the means over their seeds.
        mean: Mean loss of `worse` minus that of `better`: by how much `better` is better.
        low, high: The 95 % interval of `mean` over the seeds; None with one seed.
        p, p_adjusted: p-value of the paired t-test over the seeds, and the same corrected for all comparisons of the
            study; None with one seed.
        verdict: "supported" or "cannot tell".
        seeds_needed: Seeds with which 80 % of all experiments detect a difference of this size; None unless the
            verdict is "cannot tell", or if it is more than `MAX_SEEDS_NEEDED`.
        sentence: The comparison as text.
    """

    factor: str
    better: Any
    worse: Any
    pairs: int
    agree: int
    cells: int
    cells_agree: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    verdict: str
    seeds_needed: int | None
    sentence: str


def compare_levels(losses: Losses, factor: str, one: Scalar, other: Scalar) -> Comparison | None:
    """Compare two levels of a factor over pairs of cells complete for all seeds; None if there is no such pair."""
    matched = [rows for rows in losses.rows_by_rest.get(factor, {}).values() if one in rows and other in rows]
    if not matched:
        return None
    ones, others = (losses.scaled[[rows[level] for rows in matched]] for level in (one, other))  # (M, S) each
    return _comparison(factor, one, other, others - ones, losses.unit)


def compare_cells(losses: Losses, one: Mapping[str, Any], other: Mapping[str, Any]) -> Comparison | None:
    """Compare two cells; None if one of them is missing or not complete for all seeds."""
    rows = losses.row_by_cell
    if canonical(one) not in rows or canonical(other) not in rows:
        return None
    difference = losses.scaled[rows[canonical(other)]] - losses.scaled[rows[canonical(one)]]
    return _comparison("cell", dict(one), dict(other), difference[np.newaxis], losses.unit)


def _comparison(factor: str, one: Any, other: Any, differences: Floats, unit: float) -> Comparison:
    """A comparison from `differences`, the losses of `other` minus those of `one`.

    Args:
        differences: (M, S) float64 of M matched pairs of cells and S seeds, in units of `unit`.
    """
    if differences.mean() < 0:
        one, other, differences = other, one, -differences
    found: Paired = paired(differences.mean(axis=0))
    by_cell = differences.mean(axis=1)
    return Comparison(
        factor=factor,
        better=one,
        worse=other,
        pairs=differences.size,
        agree=int((differences > 0).sum()),
        cells=len(by_cell),
        cells_agree=int((by_cell > 0).sum()),
        mean=found.mean * unit,
        low=None if found.low is None else found.low * unit,
        high=None if found.high is None else found.high * unit,
        p=found.p,
        p_adjusted=None,
        verdict=CANNOT_TELL,
        seeds_needed=found.seeds_needed,
        sentence="",
    )


def corrected(comparisons: Sequence[Comparison], losses: Losses) -> list[Comparison]:
    """Correct the p-values for the number of comparisons, and set the verdicts and sentences.

    Args:
        losses: The losses that were compared, for the names of levels.
    """
    tested = [index for index, each in enumerate(comparisons) if each.p is not None]
    ps = [each.p for each in comparisons if each.p is not None]
    by_index = dict(zip(tested, adjusted(ps), strict=True))
    return [_with_verdict(each, by_index.get(index), losses) for index, each in enumerate(comparisons)]


def _with_verdict(comparison: Comparison, p_adjusted: float | None, losses: Losses) -> Comparison:
    supported = p_adjusted is not None and p_adjusted <= ALPHA
    judged = replace(
        comparison,
        p_adjusted=p_adjusted,
        verdict=SUPPORTED if supported else CANNOT_TELL,
        seeds_needed=None if supported else comparison.seeds_needed,
    )
    return replace(judged, sentence=_sentence(judged, losses))


def _sentence(comparison: Comparison, losses: Losses) -> str:
    seeds = comparison.pairs // comparison.cells
    better, worse = (losses.describe(comparison.factor, each) for each in (comparison.better, comparison.worse))
    names = f"{better} has a {losses.metric.better} {losses.metric.short_label} than {worse}"
    if comparison.factor != "cell":
        where = f"on average, and in {comparison.cells_agree} of {comparison.cells} cells"
        names = f"{comparison.factor} {names} {where}"
    by = f"{names}, by {loss_text(comparison.mean, 4)}"
    if comparison.low is None or comparison.high is None:
        return f"{by}; one seed cannot separate chance from effect."
    by = f"{by} [{loss_text(comparison.low, 4)}, {loss_text(comparison.high, 4)}] over {seeds} seeds"
    if comparison.verdict == SUPPORTED:
        return f"{by}: supported (p = {comparison.p_adjusted:.2g})."
    if comparison.seeds_needed is None:
        return f"{by}: cannot tell; a difference this small needs more than {MAX_SEEDS_NEEDED} seeds."
    needed = max(comparison.seeds_needed, seeds + 1)
    return f"{by}: cannot tell (p = {comparison.p_adjusted:.2g}); about {needed} seeds are needed."


@dataclass(frozen=True)
class Tested:
    """The comparisons of a study, not yet corrected.

    Attributes:
        by_levels: All that are tested; no comparison appears twice.
        shown: Those of them that a report lists.
    """

    by_levels: Mapping[Levels, Comparison]
    shown: Sequence[Levels]


def compare_all(losses: Losses, claimed: Iterable[Levels] = ()) -> Tested:
    """Compare the levels of every factor: all pairs of a few levels, or each of many levels with the best one.

    With one seed nothing can be separated from chance, so only the claimed levels are compared.

    Args:
        claimed: Levels that claims name; they are compared in any case.
    """
    pairs = _pairs(losses) if len(losses.seeds) > 1 else []
    found: dict[Levels, Comparison] = {}
    for levels in [*pairs, *(each for each in claimed if not {each, _swapped(each)} & set(pairs))]:
        if _swapped(levels) not in found and (comparison := compare_levels(losses, *levels)) is not None:
            found[levels] = comparison
    shown = [levels for levels in pairs if levels in found]
    return Tested(found, [levels for factor in losses.factors for levels in _shown(losses, factor, shown, found)])


def _swapped(levels: Levels) -> Levels:
    factor, one, other = levels
    return factor, other, one


def _pairs(losses: Losses) -> list[Levels]:
    """The pairs of levels to compare, without those that no two cells differ in alone.

    The number of pairs grows with the number of cells, not with its square: 1,000 levels have 499,500 pairs.
    """
    found: list[Levels] = []
    for factor, levels in losses.factors.items():
        order = {level: index for index, level in enumerate(levels)}
        groups = losses.rows_by_rest[factor].values()
        if len(levels) > MAX_PAIRED_LEVELS:
            for best in _best_levels(losses, factor):
                others = {level for rows in groups if best in rows for level in rows if level != best}
                found += [(factor, best, other) for other in sorted(others, key=order.__getitem__)]
            continue
        pairs = {pair for rows in groups for pair in itertools.combinations(sorted(rows, key=order.__getitem__), 2)}
        found += [(factor, *pair) for pair in sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]]))]
    return found


def _best_levels(losses: Losses, factor: str) -> list[Scalar]:
    """The level with the lowest mean loss over its cells; empty if no cell is complete for all seeds."""
    rows: dict[Scalar, list[int]] = {}
    for by_level in losses.rows_by_rest[factor].values():
        for level, row in by_level.items():
            rows.setdefault(level, []).append(row)
    return sorted(rows, key=lambda level: float(losses.scaled[rows[level]].mean()))[:1]


def _shown(
    losses: Losses, factor: str, pairs: Sequence[Levels], found: Mapping[Levels, Comparison]
) -> Sequence[Levels]:
    of_factor = [levels for levels in pairs if levels[0] == factor]
    if len(losses.factors[factor]) <= MAX_PAIRED_LEVELS:
        return of_factor
    return sorted(of_factor, key=lambda levels: found[levels].mean)[:MAX_SHOWN_LEVELS]
