"""Student's t distribution, for whole degrees of freedom.

SciPy has all of this, but importing `scipy.special` takes as long as a third of a report. The tests compare these
functions with SciPy's.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_REACH = 9.0  # standard deviations of the chi distribution, beyond which it has less than 1e-15 of its mass


def t_tail(t: float, freedom: int) -> float:
    """The probability that Student's t is above `t`.

    The finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4; the result is exact to about 1e-14.

    Args:
        t: Any number.
        freedom: Degrees of freedom, from 1 up.
    """
    angle = math.atan(t / math.sqrt(freedom))
    cosine_squared = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= cosine_squared * (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    inside = math.sin(angle) * total
    if odd:
        inside = (angle + inside) * 2 / math.pi
    return max(0.0, (1 - inside) / 2)


@functools.cache
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t, for probabilities above one half."""
    low, high = 0.0, 1.0
    while 1 - t_tail(high, freedom) < probability:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if 1 - t_tail(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def t_power(effect: float, samples: int, probability: float) -> float:
    """The probability that a one-sample t statistic is above its quantile: the tail of the noncentral t.

    Given the sample's standard deviation, the statistic is normal; this integrates over its chi distribution.

    Args:
        effect: The mean in standard deviations.
        samples: The size of the sample, from 2 up.
        probability: That of the quantile.
    """
    freedom = samples - 1
    threshold, shift = t_quantile(probability, freedom), effect * math.sqrt(samples)
    spread = 1 / math.sqrt(2 * freedom)
    low, high = max(0.0, 1 - _REACH * spread), 1 + _REACH * spread
    deviations = (low + high) / 2 + (high - low) / 2 * _NODES  # of the sample, in true standard deviations
    log_density = (
        freedom / 2 * math.log(freedom)
        - (freedom / 2 - 1) * math.log(2)
        - math.lgamma(freedom / 2)
        + (freedom - 1) * np.log(deviations)
        - freedom / 2 * deviations**2
    )
    tails = [1 - _NORMAL.cdf(threshold * deviation - shift) for deviation in deviations]
    return float((high - low) / 2 * np.sum(_WEIGHTS * np.exp(log_density) * tails))
