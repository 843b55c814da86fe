"""The noise model: what it estimates, and how sure it is of that."""

from __future__ import annotations

import numpy as np
import pytest

from search.statistics.noise import fit_noise
from search.statistics.posterior import Posterior
from search.statistics.variance_prior import prior_draws


@pytest.mark.parametrize(("prior_df", "low", "high"), [(1.4, 0.5, 4.0), (np.inf, 11.0, np.inf)])
def test_how_much_cells_differ_in_their_noise_is_found(prior_df: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    df = np.full(200, 4.0)
    true = np.ones(200) if np.isinf(prior_df) else prior_df / rng.chisquare(prior_df, 200)
    usual, found = prior_draws(true * rng.chisquare(4, 200) / 4, df, rng, 500)
    assert low <= np.median(found) <= high
    assert 0.7 < np.median(usual) < 1.4


def test_few_cells_with_few_seeds_leave_it_open() -> None:
    rng = np.random.default_rng(0)
    _, found = prior_draws(rng.chisquare(1, 6), np.ones(6), rng, 500)
    assert len(np.unique(found)) > 5


@pytest.mark.parametrize(
    "table",
    [
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]],
        [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]],
        [[1.0, 1.5], [1.2, np.nan], [np.nan, np.nan]],
        [[1.0, 1.5, 1.1], [1.2, np.nan, np.nan], [3.0, np.nan, np.nan], [3.0, np.nan, np.nan], [3.0, 2.0, np.nan]],
        [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        [[1e100, 2e-100], [1e-100, 1e-100], [5.0, 6.0]],
    ],
)
def test_any_table_has_finite_errors(table: list[list[float]]) -> None:
    noise = fit_noise(np.array(table))
    assert noise is not None
    posterior = Posterior(noise)
    assert np.isfinite(posterior.errors).all()
    found = posterior.contrasts([{0: 1.0, 1: -1.0}])
    for name, values in vars(found).items():
        assert np.isfinite(values).all(), name


def test_cells_with_one_seed_and_one_with_two() -> None:
    """One pair of seeds says something about noise, but hardly anything."""
    table = np.array([[1.0, 1.1], [2.0, np.nan], [3.0, np.nan]])
    noise = fit_noise(table)
    assert noise is not None
    found = Posterior(noise).contrasts([{0: -1.0, 1: 1.0}])
    assert found.low[0] < 0 < found.high[0]
