"""What all statistics share: levels, and means of numbers of any size."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

ALPHA = 0.05

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def mean(values: Sequence[float]) -> float:
    """The mean of finite values of any size; their sum can be larger than the largest float."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        scale = unit(values)
        return statistics.fmean(value / scale for value in values) * scale


def median(values: npt.ArrayLike) -> float:
    """The median of numbers in one dimension, equal to that of NumPy to the last bit.

    NumPy imports its masked arrays at the first one, which takes as long as the rest of a small report.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not len(ordered) or math.isnan(ordered[-1]):  # NaN is sorted to the end
        return math.nan
    return float(ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1].mean())


def unit(values: Iterable[float]) -> float:
    """The power of two to divide by, so that squares and differences of values stay finite; usually 1.

    Dividing by a power of two changes no digit.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0.0 or 1e-100 < largest < 1e100:
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1)
