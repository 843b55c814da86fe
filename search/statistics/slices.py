"""Cells that differ in one axis alone, with the curve through their means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.statistics.inference import ALPHA, Floats
from search.statistics.optimum import Curve, Points

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


def make_slice(cells: Sequence[Mapping[str, Any]], axis: str, along: str, points: Points, curve: Curve) -> Slice:
    """A slice of cells in the order of their values of the axis."""
    rest = {name: value for name, value in cells[0].items() if name not in (axis, along)}
    values = np.array([float(cell[axis]) for cell in cells])
    return Slice(float(cells[0][along]), rest, values, points, curve)
