"""Paired statistics of the differences between losses of the same seeds.

The seeds are the replicates. The cells of a grid are not: they are the whole population, and a difference may depend on
the cell. An interval therefore estimates the mean difference over exactly these cells, for all seeds that could have
been drawn. Each seed gives one estimate, its mean difference over the cells, and Student's t over the seeds is valid
however the differences vary from cell to cell.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.statistics.student import t_power, t_quantile, t_tail

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
MAX_SEEDS_NEEDED = 100  # a difference that needs more is too small to matter

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """A mean of paired differences.

    Attributes:
        mean: In nats per character.
        low, high: The 95 % interval of the mean; None with one seed.
        p: Two-sided p-value; None with one seed.
        seeds: The number of replicates.
        seeds_needed: Seeds with which 80 % of all experiments find a significant difference, if the effect has the
            measured size; None with one seed, or if it is more than `MAX_SEEDS_NEEDED`.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int
    seeds_needed: int | None


def mean(values: Sequence[float]) -> float:
    """The mean of finite values of any size; their sum can be larger than the largest float."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        scale = unit(values)
        return statistics.fmean(value / scale for value in values) * scale


def unit(values: Iterable[float]) -> float:
    """The power of two to divide by, so that squares and differences of values stay finite; usually 1.

    Dividing by a power of two changes no digit.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0.0 or 1e-100 < largest < 1e100:
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1)


def paired(differences: Floats) -> Paired:
    """Student's t of differences (S,) float64, one per seed."""
    n, average = len(differences), float(np.mean(differences))
    if n < 2:
        return Paired(average, None, None, None, n, None)
    spread = float(np.std(differences, ddof=1))
    if spread == 0.0:  # an objective without randomness
        has_difference = average != 0.0
        return Paired(average, average, average, 0.0 if has_difference else 1.0, n, n if has_difference else None)
    error = spread / math.sqrt(n)
    reach = t_quantile((1 + CONFIDENCE) / 2, n - 1) * error
    p = 2 * t_tail(abs(average) / error, n - 1)
    return Paired(average, average - reach, average + reach, p, n, seeds_needed(abs(average) / spread))


def seeds_needed(effect: float) -> int | None:
    """The number of seeds that detects `effect` standard deviations with 80 % power; None above `MAX_SEEDS_NEEDED`."""
    sizes = range(2, MAX_SEEDS_NEEDED + 1)
    found = bisect.bisect_left(sizes, POWER, key=lambda n: t_power(effect, n, 1 - ALPHA / 2))
    return sizes[found] if found < len(sizes) else None


def adjusted(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Benjamini and Hochberg): bounds the share of false positives."""
    order = np.argsort(ps)
    raised = np.asarray(ps, dtype=np.float64)[order] * (len(ps) / np.arange(1, len(ps) + 1))
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum.accumulate(raised[::-1])[::-1]
    return [min(1.0, float(p)) for p in corrected]


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm): the probability of any false positive stays below alpha."""
    order = np.argsort(ps)
    corrected, largest = [0.0] * len(ps), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def one_sided(differences: Floats) -> float:
    """p-value of a mean difference above 0, (S,) float64 with S >= 2."""
    n, average = len(differences), float(np.mean(differences))
    spread = float(np.std(differences, ddof=1))
    if spread == 0.0:
        return 0.0 if average > 0 else 1.0
    return t_tail(average / (spread / math.sqrt(n)), n - 1)


def not_separable(losses: Floats) -> list[int]:
    """The cells that may be the best, given these losses.

    Args:
        losses: (K, S) float64, of K cells and the same S >= 2 seeds.

    Returns:
        The cell with the lowest mean, and those that are not significantly worse (one-sided, paired by seed, Holm's
        correction); lowest mean first.
    """
    means = losses.mean(axis=1)
    order = [int(index) for index in np.argsort(means, kind="stable")]
    best, *others = order
    # The result includes the true best cell in 94 to 98 % of difficult draws. With Bonferroni's bound it is up to
    # 99.6 %, but then the result also includes noisy cells that are clearly worse.
    corrected = holm([one_sided(losses[other] - losses[best]) for other in others])
    return [best, *(other for other, p in zip(others, corrected, strict=True) if p > ALPHA)]
