"""Whether the best value of one axis transfers along another: the best learning rate of each width, for example.

Cells that differ in the axis alone are a slice. A curve through the means of a slice has its minimum at the slice's
optimum. A straight line in logarithms through the optima says whether they drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.statistics.inference import Floats
from search.statistics.measured import Measured, axis_groups, fit_measured
from search.statistics.optimum import MIN_POINTS, fit_curves
from search.statistics.random_effects import LinearFit, fit_linear
from search.statistics.slices import Slice, make_slice
from search.statistics.tuning import Choice, Tuned, single_choices, tuned_levels
from search.storage.values import canonical

# Combinations of the other axes that a drift is estimated from; the time grows with their third power.
MOST_CONTEXTS = 200


@dataclass(frozen=True)
class Level:
    """The optimum at one value of `along`, on average over the other axes.

    Attributes:
        level: The value.
        optimum, low, high: The optimum with its 95 % interval; None without one.
        counts: The number of slices with an optimum, and of all.
    """

    level: float
    optimum: float | None
    low: float
    high: float
    counts: tuple[int, int]


@dataclass(frozen=True)
class Drift:
    """How the optimum changes along the other axis.

    Attributes:
        slope, reach: The power of `along` that it goes with, and half of its 95 % interval.
        factor, low, high: By what it changes from the least to the largest value of `along`, with its interval.
        spread: By what factor optima of single slices typically differ from the line, beyond their errors.
    """

    slope: float
    reach: float
    factor: float
    low: float
    high: float
    spread: float


@dataclass(frozen=True)
class Transfer:
    """The answer to a question of transfer.

    Attributes:
        slices: All slices that have three points or more.
        levels: The optima by value of `along`.
        drift: None if fewer than two values of `along` have an optimum with an interval.
        choices: The tested values that every slice has, the best first.
        tuned: By value of `along`; empty without a value that every slice has.
        left_out: The number of slices with fewer than three points, and of cells that diverged or failed.
    """

    slices: Sequence[Slice]
    levels: Sequence[Level]
    drift: Drift | None
    choices: Sequence[Choice]
    tuned: Sequence[Tuned]
    left_out: tuple[int, int]


def transfer(cells: Sequence[Measured], axis: str, along: str) -> Transfer | None:
    """Find the optimum of an axis for each value of another one.

    Args:
        cells: Of one study.
        axis: Values above 0.
        along: Values above 0.

    Returns:
        The answer; None if no cell has two seeds, since nothing then is known of the noise, or if no slice has three
        points.
    """
    used = [each for each in cells if each.is_complete and axis in each.cell and along in each.cell]
    sets = axis_groups(used, axis)
    rows = [each for each in sets if len(each) >= MIN_POINTS]
    points = fit_measured(used, rows, axis)
    if points is None or not rows:
        return None
    slices = [
        make_slice([used[row].cell for row in each], axis, along, at, curve)
        for each, at, curve in zip(rows, points, fit_curves(points), strict=True)
    ]
    left_out = (len(sets) - len(rows), sum(not each.is_complete for each in cells))
    choices = single_choices(slices)
    tuned = tuned_levels(slices, choices[0].value) if choices else []
    return Transfer(slices, _levels(slices), _drift(slices), choices, tuned, left_out)


def _with_errors(slices: Sequence[Slice]) -> tuple[list[Slice], Floats, Floats]:
    """The slices whose optimum has an interval, the logarithms of the optima, and their errors; not of all contexts if
    there are many."""
    known = [each for each in slices if each.error is not None]
    contexts = list(dict.fromkeys(canonical(each.rest) for each in known))
    chosen = set(contexts[:: math.ceil(len(contexts) / MOST_CONTEXTS) or 1])
    found = [each for each in known if canonical(each.rest) in chosen]
    optima = np.array([each.curve.minimum for each in found], dtype=np.float64)
    return found, optima, np.array([each.error for each in found], dtype=np.float64)


def _indicators(keys: Sequence[Any]) -> tuple[Floats, list[Any]]:
    distinct = list(dict.fromkeys(keys))
    return np.array([[float(key == each) for each in distinct] for key in keys]), distinct


def _drift(slices: Sequence[Slice]) -> Drift | None:
    """The slope of a line for all slices, which has a height of its own for each value of the other axes."""
    found, optima, errors = _with_errors(slices)
    contexts, _ = _indicators([canonical(each.rest) for each in found])
    steps = np.log([each.level for each in found])
    if len(found) < 3:
        return None
    design = np.concatenate([contexts, steps[:, np.newaxis]], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1] or len(found) <= design.shape[1]:
        return None
    fit = fit_linear(design, optima, errors)
    unit = np.zeros(design.shape[1])
    unit[-1] = 1.0
    slope, reach = fit.estimate(unit)
    levels = np.log([each.level for each in slices])
    span = float(levels.max() - levels.min())
    ends = [math.exp(min(max(each * span, -500.0), 500.0)) for each in (slope, slope - reach, slope + reach)]
    return Drift(slope, reach, ends[0], ends[1], ends[2], math.exp(fit.spread))


def _levels(slices: Sequence[Slice]) -> list[Level]:
    """The optimum of each level: of its slice, or on average over the values of the other axes."""
    found, optima, errors = _with_errors(slices)
    contexts, names = _indicators([canonical(each.rest) for each in found])
    ticks, known = _indicators([each.level for each in found])
    fit: LinearFit | None = None
    if len(names) > 1 and len(known) > 0:
        design = np.concatenate([ticks, contexts[:, 1:]], axis=1)
        if len(found) > design.shape[1] and np.linalg.matrix_rank(design) == design.shape[1]:
            fit = fit_linear(design, optima, errors)
    levels = []
    for level in sorted({each.level for each in slices}):
        own = [each for each in slices if each.level == level]
        count = (sum(each.error is not None for each in own), len(own))
        if fit is not None and level in known:
            weights = np.zeros(len(fit.coefficients))
            weights[known.index(level)] = 1.0
            weights[len(known) :] = 1 / len(names)
            middle, reach = fit.estimate(weights)
            levels.append(Level(level, math.exp(middle), math.exp(middle - reach), math.exp(middle + reach), count))
        elif len(own) == 1:
            levels.append(Level(level, own[0].optimum, *own[0].interval, count))
        else:
            levels.append(Level(level, None, 0.0, math.inf, count))
    return levels
