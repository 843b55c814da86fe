"""Noise that depends on where a cell is: trials with too high a learning rate vary more than those near the optimum.

The variances of cells are moderated towards a trend instead of one common value (limma-trend, Law et al. 2014): the
logarithm of the usual variance is linear in the distance above and below the lowest cell of a slice, and in that cell's
loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.inference import Floats
from search.statistics.noise import Noise, inverse_trigamma, log_variances

# With fewer cells of two seeds for each coefficient there is no trend.
CELLS_EACH = 5
# A trend is used if chance alone would show it in fewer studies than this.
TREND_ALPHA = 0.01


@dataclass(frozen=True)
class TrendedNoise:
    """The noise of K cells, moderated towards a trend.

    Attributes:
        variance: (K,) float64, of one trial.
        df: (K,) float64, its degrees of freedom.
        total: Degrees of freedom of all cells together.
    """

    variance: Floats
    df: Floats
    total: float

    def joint_df(self, rows: Sequence[int], variance: Floats) -> float:
        """The degrees of freedom of a sum of variances of some cells (Satterthwaite 1946)."""
        return min(float(variance.sum() ** 2 / (variance**2 / self.df[list(rows)]).sum()), self.total)


def trended(noise: Noise, places: Sequence[Floats], groups: Sequence[Sequence[int]]) -> TrendedNoise | None:
    """Moderate variances towards a trend.

    Args:
        places: Of the cells of each group, on the axis that they differ in.
        groups: Indices of cells.

    Returns:
        The noise; None if there is no trend beyond chance, or too few cells have two seeds.
    """
    terms = _terms(noise.mean, places, groups)
    known = (noise.own_df > 0) & np.isfinite(terms).all(axis=1)
    if known.sum() < CELLS_EACH * terms.shape[1] or terms.shape[1] < 2:
        return None
    from scipy.special import digamma, fdtrc, polygamma

    df, own = noise.own_df[known], noise.own_variance[known]
    own = np.maximum(own, 1e-5 * float(np.median(own)))
    if not (own > 0).all():
        return None
    logs = log_variances(own, df)
    coefficients = np.linalg.lstsq(terms[known], logs, rcond=None)[0]
    left = float(((logs - terms[known] @ coefficients) ** 2).sum())
    spare, slopes = int(known.sum()) - terms.shape[1], terms.shape[1] - 1
    ratio = (float(((logs - logs.mean()) ** 2).sum()) - left) / slopes / max(left / spare, 1e-300)
    if fdtrc(slopes, spare, max(ratio, 0.0)) > TREND_ALPHA:
        return None
    excess = left / spare - float(polygamma(1, df / 2).mean())
    usual, total = np.exp(terms @ coefficients), float(df.sum()) - terms.shape[1]
    if excess <= 0:
        usual *= float((df * own / usual[known]).sum() / df.sum())
        return TrendedNoise(usual, np.full(len(usual), total), total)
    prior_df = 2 * inverse_trigamma(excess)
    usual *= math.exp(float(digamma(prior_df / 2)) - math.log(prior_df / 2))
    variance = (prior_df * usual + noise.own_df * noise.own_variance) / (prior_df + noise.own_df)
    return TrendedNoise(variance, np.minimum(prior_df + noise.own_df, total), total)


def _terms(mean: Floats, places: Sequence[Floats], groups: Sequence[Sequence[int]]) -> Floats:
    """What the trend is linear in, (K, 4); NaN for cells of no group."""
    terms = np.full((len(mean), 4), np.nan)
    for at, rows in zip(places, groups, strict=True):
        losses = mean[list(rows)]
        lowest = int(np.argmin(losses))
        distance = at - at[lowest]
        level = np.full(len(at), losses[lowest])
        terms[list(rows)] = np.stack([level**0, np.maximum(distance, 0), np.maximum(-distance, 0), level], axis=1)
    if not np.isfinite(terms).any():
        return terms
    terms[:, 3] -= np.nanmean(terms[:, 3])
    constant = [column for column in (1, 2, 3) if not np.nanstd(terms[:, column]) > 0]
    return np.delete(terms, constant, axis=1)
