"""A linear model of estimates of unequal precision that scatter by more than their errors.

Random-effects regression: each estimate has its own standard error, and besides all have a common spread (Paule &
Mandel 1982). Intervals have t quantiles and the scale of Knapp & Hartung 2003, which hold their level for few
estimates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.statistics.inference import ALPHA, Floats

BISECTIONS = 60


@dataclass(frozen=True)
class LinearFit:
    """Coefficients of a linear model.

    Attributes:
        coefficients: (p,) float64.
        covariance: (p, p) float64.
        spread: The standard deviation of what the model and the errors do not explain.
        df: Degrees of freedom; with 0 the intervals are infinite.
    """

    coefficients: Floats
    covariance: Floats
    spread: float
    df: int

    def estimate(self, weights: Floats) -> tuple[float, float]:
        """A linear combination of the coefficients, and half of its 95 % interval."""
        from scipy.special import stdtrit

        error = float(np.sqrt(max(float(weights @ self.covariance @ weights), 0.0)))
        reach = float(stdtrit(self.df, 1 - ALPHA / 2)) * error if self.df > 0 else np.inf
        return float(weights @ self.coefficients), reach


def fit_linear(design: Floats, values: Floats, errors: Floats) -> LinearFit:
    """Fit a linear model.

    Args:
        design: (n, p) float64, of full column rank.
        values: (n,) float64.
        errors: (n,) float64, the standard error of each value.
    """
    n, p = design.shape
    df = n - p

    def solved(spread: float) -> tuple[Floats, Floats, float]:
        weight = 1 / (errors**2 + spread)
        covariance: Floats = np.asarray(np.linalg.inv(design.T @ (weight[:, np.newaxis] * design)), dtype=np.float64)
        coefficients = covariance @ (design.T @ (weight * values))
        return coefficients, np.asarray(covariance), float((weight * (values - design @ coefficients) ** 2).sum())

    spread = 0.0
    if df > 0 and solved(0.0)[2] > df:
        low, high = 0.0, float(np.var(values)) + float((errors**2).max())
        while solved(high)[2] > df:
            high *= 2
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if solved(middle)[2] > df else (low, middle)
        spread = high
    coefficients, covariance, squares = solved(spread)
    scale = max(1.0, squares / df) if df > 0 else 1.0
    return LinearFit(coefficients, covariance * scale, float(np.sqrt(spread)), df)
