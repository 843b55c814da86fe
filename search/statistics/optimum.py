"""Where curves through noisy points have their minimum, with intervals.

A curve is a parabola with smooth deviations: its third derivative is white noise (a smoothing spline of degree 5, Wahba
1978), whose size is estimated from all curves of a study by restricted maximum likelihood. Without deviations it is a
parabola. The interval of a minimum holds every place at which a slope of 0 cannot be excluded (Fieller 1954), so it is
open at an end where the points do not bound the minimum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.statistics.inference import ALPHA, Flags, Floats

MIN_POINTS = 3
# Points that are used: those within a factor of 3 of the lowest one, and at least two on each side of it.
NEAR, NEIGHBOURS = math.log(3.0), 2
# The sizes of deviations that are tried, from 0 up; in units of the noise and the distance of points.
SIZES = (0.0, *np.geomspace(0.3, 3e3, 25).tolist())
# Deviations are taken if they raise the logarithm of the likelihood by more than this.
CLEAR = 1.0
# The size of deviations is estimated from so many groups of points; more hardly make it more precise.
MOST_GROUPS = 400
# Places at which the slope is tested, from half of the points' range below them to as far above.
PLACES = 201


@dataclass(frozen=True)
class Points:
    """Means at places.

    Attributes:
        at: (n,) float64, the places, ascending; logarithms, where a factor is what counts.
        mean: (n,) float64.
        variance: (n,) float64, of each mean; above 0.
        df: Degrees of freedom of these variances; infinite if they are known.
    """

    at: Floats
    mean: Floats
    variance: Floats
    df: float

    @property
    def used(self) -> Flags:
        """Which of them are around the lowest one, (n,) bool."""
        lowest = int(np.argmin(self.mean))
        is_neighbour = np.abs(np.arange(len(self.at)) - lowest) <= NEIGHBOURS
        return np.asarray(is_neighbour | (np.abs(self.at - self.at[lowest]) <= NEAR))

    def near_lowest(self) -> Points:
        """Those around the lowest one."""
        return Points(self.at[self.used], self.mean[self.used], self.variance[self.used], self.df)


@dataclass(frozen=True)
class Curve:
    """A parabola with smooth deviations through points, at least three.

    Attributes:
        points: What it was fitted to.
        size: Of its deviations: the root of the spectral density of its third derivative.
    """

    points: Points
    size: float

    @cached_property
    def places(self) -> Floats:
        """(P,) float64, where its minimum is looked for."""
        low, high = float(self.points.at[0]), float(self.points.at[-1])
        return np.linspace(low - (high - low) / 2, high + (high - low) / 2, PLACES)

    def _from_origin(self, at: Floats) -> Floats:
        return np.asarray(at - self.places[0])

    @cached_property
    def covariance(self) -> Floats:
        """Of the means, given the parabola, (n, n) float64."""
        at = self._from_origin(self.points.at)
        return self.size**2 * _kernel(at, at) + np.diag(self.points.variance)

    @cached_property
    def _inverse(self) -> Floats:
        """The inverse of the equations of best linear unbiased prediction, (n + 3, n + 3)."""
        n, powers = len(self.points.at), _powers(self._from_origin(self.points.at))
        matrix = np.zeros((n + 3, n + 3))
        matrix[:n, :n], matrix[:n, n:], matrix[n:, :n] = self.covariance, powers, powers.T
        return np.asarray(np.linalg.inv(matrix), dtype=np.float64)

    def _height_terms(self, at: Floats) -> tuple[Floats, Floats]:
        x, known = self._from_origin(np.atleast_1d(at)), self._from_origin(self.points.at)
        right = np.concatenate([self.size**2 * _kernel(x, known), _powers(x)], axis=1)  # (P, n + 3)
        return right, right @ self._inverse

    def weights(self, at: Floats) -> Floats:
        """By which the height at places is made of the means, (P, n)."""
        return np.asarray(self._height_terms(at)[1][:, : len(self.points.at)])

    def height_variance(self, at: Floats) -> Floats:
        """The variance of the height at places, (P,): of noise, and of deviations between the points."""
        right, solved = self._height_terms(at)
        own = self.size**2 * self._from_origin(np.atleast_1d(at)) ** 5 / 20
        return np.asarray(np.maximum(own - (right * solved).sum(axis=1), 0.0))

    @cached_property
    def slopes(self) -> tuple[Floats, Floats]:
        """The slope at `places` and its standard error, (P,) each."""
        x, known = self._from_origin(self.places), self._from_origin(self.points.at)
        n, covariance = len(known), self.size**2 * _slope_kernel(x, known)
        trend = np.stack([np.zeros_like(x), np.ones_like(x), 2 * x], axis=1)
        right = np.concatenate([covariance, trend], axis=1)
        solved = right @ self._inverse
        variance = self.size**2 * x**3 / 3 - (right * solved).sum(axis=1)
        return solved[:, :n] @ self.points.mean, np.sqrt(np.maximum(variance, 1e-300))

    @cached_property
    def minimum(self) -> float | None:
        """Where its minimum is; None without one among the points or near them."""
        slope, _ = self.slopes
        crossings = np.flatnonzero((slope[:-1] < 0) & (slope[1:] >= 0))
        if not len(crossings):
            return None
        lowest = self.points.at[int(np.argmin(self.points.mean))]
        at = crossings[int(np.argmin(np.abs(self.places[crossings] - lowest)))]
        share = slope[at] / (slope[at] - slope[at + 1])
        return float(self.places[at] + share * (self.places[at + 1] - self.places[at]))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the minimum; infinite at an end that the points do not bound."""
        from scipy.special import stdtrit

        slope, error = self.slopes
        limit = float(stdtrit(self.points.df, 1 - ALPHA / 2)) * error
        middle = self.minimum
        if middle is None:
            middle = float(self.points.at[int(np.argmin(self.points.mean))])
        falls, rises = (slope < -limit) & (self.places <= middle), (slope > limit) & (self.places >= middle)
        bottom = self._crossing(-limit, int(np.flatnonzero(falls)[-1]), 1) if falls.any() else -math.inf
        top = self._crossing(limit, int(np.flatnonzero(rises)[0]), -1) if rises.any() else math.inf
        return bottom, top

    def _crossing(self, limit: Floats, at: int, side: int) -> float:
        """Where the slope reaches a limit, between a place that is beyond it and the next one."""
        slope, _ = self.slopes
        beyond, next_one = slope[at] - limit[at], slope[at + side] - limit[at + side]
        share = beyond / (beyond - next_one)
        return float(self.places[at] + share * (self.places[at + side] - self.places[at]))

    def likelihood(self) -> float:
        """The logarithm of the restricted likelihood."""
        powers = _powers(self._from_origin(self.points.at))
        inverse = np.linalg.inv(self.covariance)
        trend = powers.T @ inverse @ powers
        residuals = self.points.mean - powers @ np.linalg.solve(trend, powers.T @ inverse @ self.points.mean)
        logs = np.linalg.slogdet(self.covariance)[1] + np.linalg.slogdet(trend)[1]
        return -0.5 * float(logs + residuals @ inverse @ residuals)


def fit_curves(groups: Sequence[Points]) -> list[Curve]:
    """A curve through each group of points near its lowest one; all have deviations of one size.

    Args:
        groups: Each has at least `MIN_POINTS`.
    """
    if not groups:
        return []
    near = [each.near_lowest() for each in groups]
    noise = math.sqrt(float(np.median(np.concatenate([each.variance for each in near]))))
    step = float(np.median(np.concatenate([np.diff(each.at) for each in near])))
    unit = noise / step**2.5
    spare = [each for each in near if len(each.at) > MIN_POINTS]
    spare = spare[:: math.ceil(len(spare) / MOST_GROUPS) or 1]
    scores = [sum(Curve(each, size * unit).likelihood() for each in spare) for size in SIZES]
    best = int(np.argmax(scores))
    found = SIZES[best] if scores[best] - scores[0] > CLEAR else 0.0
    return [Curve(each, found * unit) for each in near]


def _powers(x: Floats) -> Floats:
    return np.asarray(x[:, np.newaxis] ** np.arange(3))


def _kernel(one: Floats, other: Floats) -> Floats:
    """The covariance of the deviations at two places, for a third derivative of spectral density 1."""
    low = np.minimum(one[:, np.newaxis], other)
    gap = np.abs(one[:, np.newaxis] - other)
    return np.asarray(low**5 / 20 + gap * low**4 / 8 + gap**2 * low**3 / 12)


def _slope_kernel(one: Floats, other: Floats) -> Floats:
    """The covariance of the slope at one place and the deviation at another, (P, n)."""
    at, known = one[:, np.newaxis], other[np.newaxis, :]
    gap = np.abs(at - known)
    before = at**4 / 8 + gap * at**3 / 3 + gap**2 * at**2 / 4
    after = known**4 / 8 + gap * known**3 / 6
    return np.where(at <= known, before, after)
