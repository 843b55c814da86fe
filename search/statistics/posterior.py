"""What the results say about the true means of cells: draws from the noise model.

Given the losses and what is usual in the study, a cell's variance has a scaled inverse chi-squared distribution; what
is usual is drawn too (`variance_prior`). Given the variances the error of each mean is normal. So every statement about
the means follows from draws of the variances: the error of a linear combination of means is a mixture of normal
distributions. Over many data sets its intervals hold the truth as often as they say (docs/statistics.md has the
measured coverage).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from search.statistics.inference import ALPHA, Floats, median
from search.statistics.noise import MIN_CELLS, Noise
from search.statistics.variance_prior import prior_draws

DRAWS, FEWEST_DRAWS = 2_000, 500
SEED = 1337
# At most so many numbers are drawn at once for many comparisons, and for the means of many cells.
MAX_NUMBERS, MAX_DRAWN = 8_000_000, 20_000_000
# So many numbers stand for the draws of one standard deviation.
POINTS = 250
# Of the width of an interval: if its standard deviations differ by a factor of 1,000, the error is below 0.05 %.
BISECTIONS = 14


@dataclass(frozen=True)
class Contrasts:
    """J linear combinations of the true means of cells: differences, or means of differences.

    Attributes:
        mean: (J,) float64, the estimates.
        low, high: (J,) float64, the 95 % interval of each alone.
        p: (J,) float64, two-sided p-value of each alone.
        joint_low, joint_high: (J,) float64, intervals that hold all J truths at once with 95 %.
        joint_p: (J,) float64, p-values corrected for J: below 0.05 exactly where the joint interval excludes 0, and not
            below what so many draws can show.
        joint_level: (J,) float64, the probability with which each joint interval misses its truth.
        error: (J,) float64, the standard error of each.
        error_low, error_high: (J,) float64, between which it is with 80 %: few seeds say little about noise.
    """

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    joint_low: Floats
    joint_high: Floats
    joint_p: Floats
    joint_level: Floats
    error: Floats
    error_low: Floats
    error_high: Floats


@dataclass(frozen=True)
class Posterior:
    """The noise model with draws from it; the same losses give the same draws."""

    noise: Noise

    @property
    def _draws(self) -> int:
        """Fewer draws for more cells than 10,000."""
        return min(DRAWS, max(FEWEST_DRAWS, MAX_DRAWN // len(self.noise.mean)))

    @cached_property
    def _variances(self) -> Floats:
        """Draws of the variance of each cell's mean, (draws, K)."""
        noise, rng = self.noise, np.random.default_rng(SEED)
        is_known = noise.own_df > 0
        middle = median(noise.own_variance[is_known])
        own = np.maximum(noise.own_variance, 1e-5 * middle)
        if is_known.sum() < MIN_CELLS or middle == 0:
            variances = noise.variance * noise.df[0] / rng.chisquare(noise.df[0], (self._draws, 1))
        else:
            usual, prior_df = prior_draws(own[is_known], noise.own_df[is_known], rng, self._draws)
            weight = np.where(np.isinf(prior_df), 1.0, prior_df)[:, np.newaxis]
            usual = usual[:, np.newaxis]
            variances = (weight * usual + noise.own_df * own) / rng.chisquare(weight + noise.own_df)
            variances = np.where(np.isinf(prior_df)[:, np.newaxis], usual, variances)
        return np.asarray(variances / np.maximum(noise.count, 1))

    @cached_property
    def errors(self) -> Floats:
        """Draws of the errors of the means, (draws, K): an estimate minus the truth."""
        rng = np.random.default_rng(SEED + 1)
        return np.asarray(np.sqrt(self._variances) * rng.standard_normal(self._variances.shape))

    def contrasts(self, combinations: Sequence[Mapping[int, float]], shares: Floats | None = None) -> Contrasts:
        """Estimate linear combinations of the cells' means.

        Args:
            combinations: J >= 1 of them, each with its weights by cell; none for a cell without a loss.
            shares: (J,) float64 with sum 1: how much of the probability that a joint interval misses its truth each of
                them may take; None for equal shares.
        """
        n, weights = len(combinations), self._table(combinations)
        shares = np.full(n, 1 / n) if shares is None else shares
        mean = np.asarray(weights @ np.nan_to_num(self.noise.mean))
        draws = min(self._draws, max(200, MAX_NUMBERS // n))
        deviations = np.sqrt((weights**2 @ self._variances[:draws].T).T * self._shared(weights))  # (draws, J)
        deviations = _thinned(deviations)
        half = _half_width(deviations, ALPHA)
        # By Bonferroni's bound these intervals hold all at once. They are correlated, so narrower ones do too.
        scale = _half_width(deviations, ALPHA * shares)
        largest = np.sort(self._largest(weights, scale))
        joint = float(np.quantile(largest, 1 - ALPHA, method="higher")) * scale
        joint = np.maximum(joint, half) if n > 1 else half
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.where(scale > 0, np.abs(mean) / scale, np.where(mean == 0, 0.0, np.inf))
        p = _p(deviations, mean)
        joint_p = 1 - np.searchsorted(largest, size, side="left") / len(largest)
        joint_p = np.maximum(joint_p, p) if n > 1 else p
        joint_p = np.maximum(joint_p, 1 / self._draws)
        error = np.median(deviations, axis=0)
        spread = np.quantile(deviations, (0.1, 0.9), axis=0)
        level = _p(deviations, joint)
        return Contrasts(mean, mean - half, mean + half, p, mean - joint, mean + joint, joint_p, level, error, *spread)

    def _table(self, combinations: Sequence[Mapping[int, float]]) -> Any:
        """The weights, (J, K) float64, without the many zeros."""
        from scipy.sparse import csr_array

        rows = [at for at, weights in enumerate(combinations) for _ in weights]
        columns = [cell for weights in combinations for cell in weights]
        values = [weight for weights in combinations for weight in weights.values()]
        return csr_array((values, (rows, columns)), shape=(len(combinations), len(self.noise.mean)))

    def _shared(self, weights: Any) -> Floats:
        """By what factor the cells' correlation changes the variance of each combination, (J,)."""
        noise = self.noise
        if noise.correlation == 0:
            return np.ones(weights.shape[0])
        count = np.maximum(noise.count, 1)
        apart = weights**2 @ (noise.variance / count)
        together = ((weights @ (noise.has * (np.sqrt(noise.variance) / count)[:, np.newaxis])) ** 2).sum(axis=1)
        ratio = np.divide(together, apart, out=np.ones(weights.shape[0]), where=apart > 0)
        return np.asarray(1 - noise.correlation + noise.correlation * ratio)

    def _largest(self, weights: Any, scale: Floats) -> Floats:
        """Draws of the largest error of all combinations, in units of `scale`, (draws,)."""
        factor = np.sqrt(self._shared(weights)) / np.where(scale > 0, scale, np.inf)
        step = max(1, MAX_NUMBERS // weights.shape[0])
        parts = [
            np.abs((weights @ self.errors[start : start + step].T).T * factor).max(axis=1)
            for start in range(0, len(self.errors), step)
        ]
        return np.concatenate(parts)


def _thinned(deviations: Floats) -> Floats:
    """The distribution of each column by fewer numbers: means of neighbours in order."""
    step = max(1, len(deviations) // POINTS)
    ordered = np.sort(deviations[: len(deviations) // step * step], axis=0)
    return np.asarray(ordered.reshape(-1, step, deviations.shape[1]).mean(axis=1))


def _p(deviations: Floats, mean: Floats) -> Floats:
    """Two-sided p-values, (J,), for standard deviations (draws, J) and estimates (J,)."""
    from scipy.special import ndtr

    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(deviations > 0, np.abs(mean) / deviations, np.where(mean == 0, 0.0, np.inf))
    return np.asarray(2 * ndtr(-z).mean(axis=0))


def _half_width(deviations: Floats, level: Floats | float) -> Floats:
    """Half of the interval that misses the truth with probability `level`, (J,), by bisection of its logarithm."""
    from scipy.special import ndtri

    is_exact = deviations.max(axis=0) == 0
    deviations = np.where(is_exact, 1.0, deviations)
    # Between the widths that the smallest and the largest standard deviation have alone.
    normal = -ndtri(np.asarray(level) / 2)
    low, high = (np.log(normal * end) for end in (deviations.min(axis=0), deviations.max(axis=0)))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        misses = _p(deviations, np.exp(middle)) > level
        low, high = np.where(misses, middle, low), np.where(misses, high, middle)
    return np.where(is_exact, 0.0, np.exp(high))
