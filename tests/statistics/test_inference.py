"""What all statistics share."""

from __future__ import annotations

import numpy as np
import pytest

from search.statistics.inference import median


@pytest.mark.parametrize("seed", range(20))
def test_the_median_is_that_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=rng.integers(1, 30)) * 10.0 ** rng.integers(-8, 9)
    assert median(values) == np.median(values)
    assert median(list(values)) == np.median(values)


def test_nothing_and_what_is_no_number_have_none() -> None:
    assert np.isnan(median([]))
    assert np.isnan(median([1.0, np.nan, 3.0]))
    assert median([1.0, np.inf]) == np.inf
