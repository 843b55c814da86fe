"""Our t distribution agrees with SciPy's."""

from __future__ import annotations

import math

import pytest
from scipy import special

from search.statistics.student import t_power, t_quantile, t_tail

FREEDOMS = (1, 2, 3, 4, 5, 9, 20, 99)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_tails_and_quantiles(freedom: int) -> None:
    for t in (0.0, 0.1, 0.5, 1.0, 2.5, 10.0, 1000.0):
        for signed in (t, -t):
            assert t_tail(signed, freedom) == pytest.approx(special.stdtr(freedom, -signed), abs=1e-14, rel=1e-12)
    for probability in (0.6, 0.9, 0.975, 0.99999):
        assert t_quantile(probability, freedom) == pytest.approx(special.stdtrit(freedom, probability), rel=1e-9)


@pytest.mark.parametrize("samples", [2, 3, 5, 10, 100])
def test_power(samples: int) -> None:
    threshold = special.stdtrit(samples - 1, 0.975)
    for effect in (0.0, 0.05, 0.3, 1.0, 5.0, 30.0):
        expected = 1 - special.nctdtr(samples - 1, effect * math.sqrt(samples), threshold)
        assert t_power(effect, samples, 0.975) == pytest.approx(expected, abs=2e-6)
