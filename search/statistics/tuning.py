"""What the best value of each slice gains over one value for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.inference import ALPHA
from search.statistics.slices import Slice
from search.storage.values import canonical


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


def single_choices(slices: Sequence[Slice]) -> list[Choice]:
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


def tuned_levels(slices: Sequence[Slice], value: float) -> list[Tuned]:
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
