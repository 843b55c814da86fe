"""One model of the noise: every interval, verdict and seed of a study is computed with it.

A trial's loss is its cell's true mean plus noise. Each cell has a noise of its own, and a few seeds say little about
its size; so a cell's variance is moderated towards what is usual in the study (empirical Bayes, the method of limma:
Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression"). Cells may have any
number of seeds. Cells that share seeds may be correlated, because a seed gives them the same random numbers; one
correlation for the whole study is estimated, and used where the data show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from search.statistics.inference import ALPHA, Flags, Floats, median

# The correlation is used if chance alone would show it in fewer studies than this.
CORRELATION_ALPHA = 0.05
# With fewer cells, how much variances differ between cells cannot be estimated; they are pooled.
MIN_CELLS = 3
# Values closer than this, relative to the largest, count as equal: they differ by rounding alone.
SAME = 1e-9


@dataclass(frozen=True)
class Noise:
    """The means of K cells, and the noise of one trial around each.

    Attributes:
        has: (K, S) bool: which cell has a loss of which seed.
        mean: (K,) float64; NaN for a cell without a loss.
        variance: (K,) float64, the moderated variance of one trial.
        df: (K,) float64, its degrees of freedom.
        own_variance: (K,) float64, the variance of a cell's own losses.
        own_df: (K,) float64, its degrees of freedom; 0 with one loss.
        prior_variance, prior_df: What is usual in the study, and its weight in degrees of freedom; it is infinite if
            the cells do not differ in their noise beyond chance, and then `variance` is the same for all.
        correlation: Between the losses of two cells with the same seed, from 0 to 1.
    """

    has: Flags
    mean: Floats
    variance: Floats
    df: Floats
    own_variance: Floats
    own_df: Floats
    prior_variance: float
    prior_df: float
    correlation: float

    @property
    def count(self) -> Floats:
        """The number of seeds of each cell, (K,) float64."""
        return np.asarray(self.has.sum(axis=1), dtype=np.float64)

    @property
    def mean_reach(self) -> Floats:
        """Half of the 95 % interval of each cell's mean, (K,) float64."""
        return self._reach(1 / np.maximum(self.count, 1))

    @property
    def seed_reach(self) -> Floats:
        """Half of the interval around each mean that holds the loss of another seed with 95 %, (K,) float64."""
        return self._reach(1 + 1 / np.maximum(self.count, 1))

    def _reach(self, variances: Floats) -> Floats:
        from scipy.special import stdtrit

        return np.asarray(stdtrit(self.df, 1 - ALPHA / 2) * np.sqrt(self.variance * variances))


def fit_noise(table: Floats) -> Noise | None:
    """Estimate the noise from losses.

    Args:
        table: (K, S) float64, of K cells and S seeds; NaN where there is no loss.

    Returns:
        The model; None if no cell has two losses, because one seed a cell says nothing about noise.
    """
    has = ~np.isnan(table)
    count = has.sum(axis=1)
    residual_df = np.maximum(count - 1, 0).astype(np.float64)
    if not (residual_df > 0).any():
        return None
    mean = np.where(count > 0, np.where(has, table, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
    squares = np.where(has, (table - mean[:, np.newaxis]) ** 2, 0.0).sum(axis=1)
    floor = _resolution(table[has]) ** 2 / 12
    own = np.maximum(squares / np.maximum(residual_df, 1), floor)  # (K,)
    prior_variance, prior_df = _prior(own[residual_df > 0], residual_df[residual_df > 0])
    variance, df = _moderated(own, residual_df, prior_variance, prior_df)
    correlation = _correlation(table, mean, variance, has)
    return Noise(has, mean, variance, df, own, residual_df, prior_variance, prior_df, correlation)


def _moderated(own: Floats, residual_df: Floats, prior_variance: float, prior_df: float) -> tuple[Floats, Floats]:
    """The moderated variances and their degrees of freedom, (K,) float64 each."""
    if math.isinf(prior_df):
        return np.full(len(own), prior_variance), np.full(len(own), residual_df.sum())
    variance = (prior_df * prior_variance + residual_df * own) / (prior_df + residual_df)
    # No cell's variance is better known than all residuals together can tell.
    return variance, np.minimum(prior_df + residual_df, residual_df.sum())


def _resolution(values: Floats) -> float:
    """The smallest difference between two values, or 0 with one value: whole numbers have 1.

    Noise below it cannot be seen, so seeds with the same value do not show that there is none.
    """
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    gaps = gaps[gaps > SAME * np.abs(distinct).max(initial=0.0)]
    return float(gaps.min()) if len(gaps) else 0.0


def _prior(own: Floats, df: Floats) -> tuple[float, float]:
    """The variance that is usual in a study, and its weight: moments of the logarithms (Smyth 2004, section 6.2).

    Args:
        own: (K,) float64, the variances of cells.
        df: (K,) float64, their degrees of freedom, from 1 up.
    """
    from scipy.special import digamma, polygamma

    pooled = float((own * df).sum() / df.sum())
    own = np.maximum(own, 1e-5 * median(own))
    if len(own) < MIN_CELLS or not (own > 0).all():
        return pooled, math.inf
    logs = log_variances(own, df)
    excess = float(logs.var(ddof=1) - polygamma(1, df / 2).mean())
    if excess <= 0:
        return pooled, math.inf
    prior_df = 2 * inverse_trigamma(excess)
    return math.exp(float(logs.mean()) + float(digamma(prior_df / 2)) - math.log(prior_df / 2)), prior_df


def log_variances(own: Floats, df: Floats) -> Floats:
    """The logarithms of variances of cells, without the bias that few degrees of freedom give them, (K,) float64."""
    from scipy.special import digamma

    return np.asarray(np.log(own) - digamma(df / 2) + np.log(df / 2))


def inverse_trigamma(value: float) -> float:
    """The argument of which the trigamma function is `value`, by Newton's method (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    found = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, found))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, found))
        found += step
        if -step / found < 1e-8:
            break
    return found


def _correlation(table: Floats, mean: Floats, variance: Floats, has: Flags) -> float:
    """The correlation of cells with the same seed; 0 unless the seeds' effect is larger than chance shows.

    Standardized residuals are averaged by seed: without correlation, the mean square of these averages is that of
    independent residuals.
    """
    from scipy.special import fdtrc

    count = has.sum(axis=1)
    several = (count > 1) & (variance > 0)
    if several.sum() < 2:
        return 0.0
    used = has[several]
    shrink = np.sqrt(variance * np.maximum(count - 1, 1) / np.maximum(count, 1))  # of a residual, (K,)
    residuals = np.where(has, (table - mean[:, np.newaxis]) / np.where(shrink > 0, shrink, 1)[:, np.newaxis], 0.0)
    residuals = residuals[several]
    cells = used.sum(axis=0)  # of each seed, (S,)
    shared = cells > 1
    if shared.sum() < 2:
        return 0.0
    total = float((residuals[:, shared] ** 2).sum())
    between = float((residuals[:, shared].sum(axis=0) ** 2 / cells[shared]).sum())
    seeds, n = int(shared.sum()), float(cells[shared].sum())
    average = n / seeds
    freedom = seeds - 1, (seeds - 1) * (average - 1)
    within = total - between
    if within <= 0:
        return 0.0
    ratio = (between / freedom[0]) / (within / freedom[1])
    if fdtrc(*freedom, ratio) > CORRELATION_ALPHA:
        return 0.0
    return float(np.clip((ratio - 1) / (ratio - 1 + average), 0.0, 0.95))
