"""Interactions: whether the gain of one level over another changes along another axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.answers import ON_AVERAGE, Verdict
from search.statistics.comparison import COMPARED, PRUNED, UNFINISHED, Levels
from search.statistics.comparisons import Family, matched, state
from search.statistics.losses import Losses
from search.storage.values import canonical
from search.study.claims import Claim, Scalar
from search.study.formatting import loss_text


@dataclass(frozen=True)
class Trend:
    """How the gain of one level over another changes along an axis, to be estimated.

    Attributes:
        claim: The claim that asks for it.
        index: Of its slope in the contrasts of the study.
        unit: What the slope is per: "doubling of block_size", or "step of it" if its values are no positive numbers.
        reason: Why it cannot be answered; "" if it can.
    """

    claim: Claim
    index: int | None
    unit: str
    reason: str = ""


def add_trend(family: Family, claim: Claim) -> Trend:
    """Collect the slope of a claim: for each combination of the other axes the least-squares slope, then their mean."""
    assert claim.factor is not None, "checked by Claim"
    assert claim.along is not None, "checked by Claim"
    losses, along = family.losses, claim.along
    groups: dict[str, list[tuple[Scalar, tuple[int, int]]]] = {}
    states: list[str] = []
    for rest, rows in matched(losses, Levels(claim.factor, *claim.order)):
        found = state(losses, *rows)
        states.append(found)
        if along in rest and found == COMPARED:
            others = canonical({axis: value for axis, value in rest.items() if axis != along})
            groups.setdefault(others, []).append((rest[along], rows))
    levels = losses.factors.get(along, [])
    unit = f"doubling of {along}" if _is_scale(levels) else f"step of {along}"
    slopes = [slope for points in groups.values() if (slope := _slope(points, levels)) is not None]
    if PRUNED in states:
        return Trend(claim, None, unit, "pruned: some settings have no final values")
    if UNFINISHED in states or not slopes:
        return Trend(claim, None, unit, "no two settings along it can be compared yet")
    return Trend(claim, family.add_weights(_mean(slopes)), unit)


def _is_scale(levels: Sequence[Scalar]) -> bool:
    return all(type(level) in (int, float) and float(level) > 0 for level in levels)


def _mean(slopes: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The weights of the mean of slopes that have no cell in common, by row."""
    return {row: weight / len(slopes) for slope in slopes for row, weight in slope.items()}


def _slope(points: Sequence[tuple[Scalar, tuple[int, int]]], levels: Sequence[Scalar]) -> dict[int, float] | None:
    """The weights of the slope of the gain, by row; None with fewer than two points."""
    if len(points) < 2:
        return None
    scale = _is_scale(levels)
    x = np.array([math.log2(float(level)) if scale else float(levels.index(level)) for level, _ in points])
    x = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    weights: dict[int, float] = {}
    for value, (_, (one, other)) in zip(x, points, strict=True):
        weights[one], weights[other] = -float(value), float(value)
    return weights


def trend_answer(
    trend: Trend, losses: Losses, low: float | None, high: float | None, slope: float, margin: float | None
) -> tuple[Verdict, str, str]:
    """The verdict, its detail and a sentence.

    Args:
        low, high: The joint 95 % interval of the slope; None without one.
        slope: By how much the gain grows at each step.
        margin: A change below it does not matter.
    """
    claim = trend.claim
    if trend.index is None:
        verdict = Verdict.NOT_ANSWERABLE if trend.reason.startswith("pruned") else Verdict.CANNOT_TELL
        return verdict, trend.reason, f"{trend.reason[:1].upper()}{trend.reason[1:]}."
    one, other = (losses.describe(claim.factor or "", level) for level in claim.order)
    moves = "grows" if slope > 0 else "shrinks"
    sentence = f"The gain of {one} over {other} {moves} by {loss_text(abs(slope), 4)} with each {trend.unit}"
    if low is None or high is None:
        return Verdict.CANNOT_TELL, "one seed a cell", f"{sentence}. Open: one seed a cell."
    sentence += f" [{loss_text(low, 4)}, {loss_text(high, 4)}; above 0 it grows]."
    if margin is not None and -margin < low and high < margin:
        return Verdict.NO_CLEAR_DIFFERENCE, f"less than {margin:g} with each {trend.unit}", sentence
    if low <= 0 <= high:
        return Verdict.CANNOT_TELL, "", f"{sentence} Chance can explain it."
    return Verdict.YES if moves == claim.change else Verdict.OPPOSITE, ON_AVERAGE, sentence
