"""Whether the best value of one axis transfers along another: the best learning rate of each width, for example.

Cells that differ in the axis alone are a slice. A curve through the means of a slice has its minimum at the slice's
optimum. A straight line in logarithms through the optima says whether they drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.statistics.inference import ALPHA, Floats
from search.statistics.measured import Measured, axis_groups, fit_measured
from search.statistics.optimum import MIN_POINTS, Curve, Points, fit_curves
from search.statistics.random_effects import LinearFit, fit_linear
from search.storage.values import canonical

# Estimates whose interval is wider than this factor on both sides say nothing about a drift.
WIDEST = math.log(100.0)


@dataclass(frozen=True)
class Slice:
    """The cells that differ in the axis alone.

    Attributes:
        level: Their value of `along`.
        rest: The values of all other axes.
        values: (n,) float64 of the axis, ascending, of all cells with losses.
        points: The means of these cells, over the logarithms of the values.
        curve: Through the points near the lowest one.
    """

    level: float
    rest: Mapping[str, Any]
    values: Floats
    points: Points
    curve: Curve

    @property
    def optimum(self) -> float | None:
        """Where the curve has its minimum; None without one."""
        return None if self.curve.minimum is None else math.exp(self.curve.minimum)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the optimum, 95 %; from 0 or to infinity where the losses do not bound it."""
        low, high = self.curve.interval
        return math.exp(low), math.exp(high) if high < math.inf else math.inf

    @property
    def error(self) -> float | None:
        """The standard error of the optimum's logarithm; None if its interval is open."""
        from scipy.special import stdtrit

        low, high = self.curve.interval
        if self.curve.minimum is None or math.isinf(high - low) or high - low > WIDEST:
            return None
        return (high - low) / 2 / float(stdtrit(self.points.df, 1 - ALPHA / 2))


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
class Choice:
    """What one value for all slices loses against the optimum of each.

    Attributes:
        value: Of the axis.
        mean, reach: The loss above that of the optima, the mean of all slices, and half of its 95 % interval.
        worst: The largest of a slice.
        worst_level: The value of `along` of that slice.
    """

    value: float
    mean: float
    reach: float
    worst: float
    worst_level: float


@dataclass(frozen=True)
class Tuned:
    """What tuning gives at one value of `along`, on average over its slices.

    Attributes:
        level: The value.
        untuned: The loss at the best single choice for all.
        tuned: The loss at the optimum of each slice.
        reach: Half of the 95 % interval of their difference.
        gain, gain_reach: By how much the tuned loss is lower than that of the value before, in slices that differ in
            `along` alone, and half of its 95 % interval; None for the first value, and without such slices.
    """

    level: float
    untuned: float
    tuned: float
    reach: float
    gain: float | None
    gain_reach: float | None


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
        _slice([used[row].cell for row in each], axis, along, at, curve)
        for each, at, curve in zip(rows, points, fit_curves(points), strict=True)
    ]
    left_out = (len(sets) - len(rows), sum(not each.is_complete for each in cells))
    choices = _choices(slices)
    tuned = _tuned(slices, choices[0].value) if choices else []
    return Transfer(slices, _levels(slices), _drift(slices), choices, tuned, left_out)


def _slice(cells: Sequence[Mapping[str, Any]], axis: str, along: str, points: Points, curve: Curve) -> Slice:
    rest = {name: value for name, value in cells[0].items() if name not in (axis, along)}
    values = np.array([float(cell[axis]) for cell in cells])
    return Slice(float(cells[0][along]), rest, values, points, curve)


def _with_errors(slices: Sequence[Slice]) -> tuple[list[Slice], Floats, Floats]:
    """The slices whose optimum has an interval, the logarithms of the optima, and their errors."""
    found = [each for each in slices if each.error is not None]
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


def _choices(slices: Sequence[Slice]) -> list[Choice]:
    """What each value that all slices have loses; measured at that value, against the lowest point of the curve."""
    from scipy.special import stdtrit

    shared = set(map(float, slices[0].values))
    for each in slices[1:]:
        shared &= set(map(float, each.values))
    with_minimum = [each for each in slices if each.curve.minimum is not None]
    if not with_minimum:
        return []
    df = min(each.points.df for each in with_minimum)
    quantile = float(stdtrit(df, 1 - ALPHA / 2))
    found = []
    for value in sorted(shared):
        lost, variances = [], []
        for each in with_minimum:
            loss, variance = _lost(each, value)
            lost.append(loss)
            variances.append(variance)
        worst = int(np.argmax(lost))
        reach = quantile * math.sqrt(sum(variances)) / len(lost)
        found.append(Choice(value, float(np.mean(lost)), reach, lost[worst], with_minimum[worst].level))
    return sorted(found, key=lambda each: each.mean)


def _lost(one: Slice, value: float) -> tuple[float, float]:
    """The mean at a value minus the lowest point of the curve, and the variance of that."""
    place = np.array([one.curve.minimum])
    at, weights = int(np.argmin(np.abs(one.values - value))), np.zeros(len(one.points.at))
    weights[one.points.used] = one.curve.weights(place)[0]
    own = float(one.points.variance[at])
    variance = own * (1 - 2 * float(weights[at])) + float(one.curve.height_variance(place)[0])
    return float(one.points.mean[at] - weights @ one.points.mean), max(variance, 0.0)


def _tuned(slices: Sequence[Slice], value: float) -> list[Tuned]:
    """Losses at one choice and at the optima, by level."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(min(each.points.df for each in slices), 1 - ALPHA / 2))
    found: list[Tuned] = []
    before: dict[str, tuple[float, float]] = {}
    for level in sorted({each.level for each in slices}):
        own = [each for each in slices if each.level == level and each.curve.minimum is not None]
        if not own:
            continue
        lost = np.array([_lost(each, value) for each in own])
        lowest = {canonical(each.rest): _lowest(each) for each in own}
        pairs = np.array([(*before[key], *lowest[key]) for key in lowest.keys() & before.keys()])
        gain = gain_reach = None
        if len(pairs):
            gain = float((pairs[:, 0] - pairs[:, 2]).mean())
            gain_reach = quantile * math.sqrt(float(pairs[:, [1, 3]].sum())) / len(pairs)
        tuned = float(np.mean([loss for loss, _ in lowest.values()]))
        reach = quantile * math.sqrt(float(lost[:, 1].sum())) / len(own)
        found.append(Tuned(level, tuned + float(lost[:, 0].mean()), tuned, reach, gain, gain_reach))
        before = lowest
    return found


def _lowest(one: Slice) -> tuple[float, float]:
    """The lowest point of the curve, and its variance."""
    place = np.array([one.curve.minimum])
    return float((one.curve.weights(place) @ one.curve.points.mean)[0]), float(one.curve.height_variance(place)[0])
