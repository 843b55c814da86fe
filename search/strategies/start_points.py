"""The first cells of a sampler that learns: points of a quasi-random sequence, which do not crowd as random ones do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.errors import UsageError
from search.study.space import Space

# The smallest share of a range that a digit decides.
_RESOLUTION = 2.0**-53
# Between the places that are tried for one index: more than a study has trials, and prime.
_STRIDE = 100_003
MAX_PLACES = 10_000


def start_point(
    distributions: Mapping[str, BaseDistribution], index: int, seed: int, space: Space | None = None
) -> dict[str, Any]:
    """A point of a randomized Halton sequence (Owen 2017, "A randomized Halton algorithm in R").

    Args:
        distributions: The search space.
        index: The place in the sequence, from 0; if the cell there is excluded, a later place is taken.
        seed: Together with the place of an axis it gives the axis's permutations of digits.
        space: Which axes a cell has, and which cells are excluded; by default every cell has every axis.

    Returns:
        A value for each axis that applies.

    Raises:
        UsageError: All of `MAX_PLACES` points are excluded.
    """
    if space is None:
        return _point(distributions, index, seed)
    for place in itertools.islice(itertools.count(index, _STRIDE), MAX_PLACES):
        cell = space.restricted(_point(distributions, place, seed))
        if not space.is_excluded(cell):
            return cell
    raise UsageError(f"exclude leaves almost no cell: each of {MAX_PLACES} random cells is excluded; remove an entry")


def _point(distributions: Mapping[str, BaseDistribution], index: int, seed: int) -> dict[str, Any]:
    return {
        name: _value(distribution, _halton(index, base, np.random.default_rng([seed, axis])))
        for axis, ((name, distribution), base) in enumerate(zip(distributions.items(), _primes(), strict=False))
    }


def _halton(index: int, base: int, rng: np.random.Generator) -> float:
    """A number in [0, 1): the digits of `index` in reverse order, each permuted."""
    share, scale = 0.0, 1.0
    while scale > _RESOLUTION:
        scale /= base
        share += float(rng.permutation(base)[index % base]) * scale
        index //= base
    return min(share, 1.0 - _RESOLUTION)


def _primes() -> Iterator[int]:
    found: list[int] = []
    for number in itertools.count(2):
        if all(number % prime for prime in found):
            found.append(number)
            yield number


def _value(distribution: BaseDistribution, share: float) -> Any:
    """The value at a share of a distribution, 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    if isinstance(distribution, IntDistribution):
        return _integer(distribution, share)
    assert isinstance(distribution, FloatDistribution)
    return _real(distribution, share)


def _integer(of: IntDistribution, share: float) -> int:
    if not of.log:
        return of.low + int(share * ((of.high - of.low) // of.step + 1)) * of.step
    value = math.exp(_between(math.log(of.low - 0.5), math.log(of.high + 0.5), share))
    return min(max(round(value), of.low), of.high)


def _real(of: FloatDistribution, share: float) -> float:
    if of.step is not None:
        return _at_step(of, int(share * (round((of.high - of.low) / of.step) + 1)), of.step)
    if of.log:
        value = math.exp(_between(math.log(of.low), math.log(of.high), share))
    else:
        value = _between(of.low, of.high, share)
    return min(max(value, of.low), of.high)


def in_decimals(value: Any, of: BaseDistribution) -> Any:
    """The value of a range with a step as it is written: adding steps in floats gives 0.7999999999999999 for 0.8."""
    if not isinstance(of, FloatDistribution) or of.step is None:
        return value
    return _at_step(of, round((value - of.low) / of.step), of.step)


def _at_step(of: FloatDistribution, number: int, step: float) -> float:
    return min(max(float(Decimal(str(of.low)) + number * Decimal(str(step))), of.low), of.high)


def _between(low: float, high: float, share: float) -> float:
    return low * (1.0 - share) + high * share  # without the difference, which can overflow
