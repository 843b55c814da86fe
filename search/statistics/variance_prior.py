"""How much variances differ between cells, with the uncertainty of that: few cells with few seeds say little about it.

The variances of cells are draws of a scaled inverse chi-squared distribution (Smyth 2004), so an estimate of one with d
degrees of freedom, over the usual variance, has an F distribution with d and `prior_df` degrees of freedom. The usual
variance and `prior_df` are drawn in proportion to this likelihood, on a grid, with flat priors of their logarithms.
"""

from __future__ import annotations

import numpy as np

from search.statistics.inference import Floats, median

# Infinite: all cells have one variance.
PRIOR_DFS = np.array([0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.0, 16.0, 32.0, np.inf])
# The usual variance is within these factors of the median of the estimates.
FACTORS = np.exp(np.linspace(-4.0, 4.0, 65))


def prior_draws(own: Floats, df: Floats, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """Draws of the usual variance and of its weight in degrees of freedom.

    Args:
        own: (K,) float64, estimates of the variances of cells, above 0.
        df: (K,) float64, their degrees of freedom, from 1 up.

    Returns:
        Two arrays (draws,); degrees of freedom may be infinite.
    """
    usual = median(own) * FACTORS
    logs = np.array([_log_likelihood(own / usual[:, np.newaxis], df, prior_df) for prior_df in PRIOR_DFS])
    weights = np.exp(logs - logs.max()).ravel()
    chosen = rng.choice(weights.size, size=draws, p=weights / weights.sum())
    return usual[chosen % len(usual)], PRIOR_DFS[chosen // len(usual)]


def _log_likelihood(ratios: Floats, df: Floats, prior_df: float) -> Floats:
    """Of the variances of cells over the usual one, (…, K): sums of the logarithms of their densities, (…)."""
    from scipy.special import gammaln

    half = df / 2
    if np.isinf(prior_df):
        found = half * np.log(half * ratios) - half * ratios - gammaln(half)
    else:
        x = df * ratios / prior_df
        found = half * np.log(x) - (half + prior_df / 2) * np.log1p(x)
        found += gammaln(half + prior_df / 2) - gammaln(half) - gammaln(prior_df / 2)
    return np.asarray(found.sum(axis=-1))
