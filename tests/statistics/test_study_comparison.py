"""Two studies compared, from made-up trials with known differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.statistics.compared_studies import ComparedStudy, combined_axes
from search.statistics.comparisons import MAX_SETTINGS
from search.statistics.study_comparison import compare_studies
from search.storage.queries import TrialSummary
from search.storage.schema import DEFINITION
from search.study.stored import parse_study

SEEDS = 4
Values = Callable[[Mapping[str, Any], int], float]


def study(
    name: str, grid: Mapping[str, Sequence[Any]], value: Values, seeds: int = SEEDS, **attrs: Any
) -> ComparedStudy:
    """A study whose trials are all complete."""
    stored = parse_study(name, {DEFINITION: {"objective": "made_up", "grid": grid}, **attrs})
    cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    trials = [
        _trial(name, number, {**cell, "seed": seed}, value(cell, seed))
        for number, (seed, cell) in enumerate(itertools.product(range(seeds), cells))
    ]
    return ComparedStudy(name, stored, trials, {})


def _trial(name: str, number: int, cell: Mapping[str, Any], value: float) -> TrialSummary:
    return TrialSummary(name, number, cell, "complete", 1, None, None, 1, None, value, value, None, 1.0, {})


def noisy(seed: int, shift: float = 0.0, scale: float = 0.01) -> Values:
    rng = np.random.default_rng(seed)
    return lambda cell, repetition: 2.0 + shift + scale * float(rng.standard_normal())


def test_intervals_hold_the_truth() -> None:
    # Mean and cells together miss it in 5 % of 60 draws: 8 is the 99 % binomial bound. The effect is never missed.
    grid: dict[str, list[Any]] = {"a": [0, 1, 2], "b": ["x", "y"]}
    for effect in (0.0, 0.1):
        missed = wrong = 0
        for draw in range(60):
            found = compare_studies(study("A", grid, noisy(2 * draw)), study("B", grid, noisy(2 * draw + 1, effect)))
            differences = [(each.low, each.high) for each in found.cells] + [(found.low, found.high)]
            missed += any(low is None or high is None or not low <= effect <= high for low, high in differences)
            wrong += found.verdict != ("A is better, everywhere" if effect else "cannot tell yet")
        assert missed <= 8
        assert wrong <= 8


def test_a_margin_says_that_nothing_differs() -> None:
    grid = {"a": [0, 1, 2]}
    margins: Sequence[tuple[dict[str, Any], str]] = (
        ({}, "cannot tell yet"),
        ({"equivalence_margin": 0.1}, "no clear difference (less than 0.1)"),
    )
    for attrs, verdict in margins:
        found = compare_studies(study("A", grid, noisy(1)), study("B", grid, noisy(2), **attrs))
        assert found.verdict == verdict
        assert {each.verdict for each in found.cells} == {verdict.partition(" (")[0]}


def test_cells_are_too_many_to_judge_each() -> None:
    grid = {"a": list(range(MAX_SETTINGS + 1))}
    found = compare_studies(study("A", grid, noisy(1), 2), study("B", grid, noisy(2, 0.1), 2))
    assert found.verdict == "A is better, on average"
    assert {each.verdict for each in found.cells} == {f"not judged (more than {MAX_SETTINGS} cells)"}


def test_an_axis_may_be_called_study() -> None:
    grid: dict[str, list[Any]] = {"study": ["A", "B"], "study_": [1, 2]}
    found = compare_studies(study("A", grid, noisy(1)), study("B", grid, noisy(2, -0.1)))
    assert found.verdict == "B is better, everywhere"
    assert found.sentence.startswith("Study B has a lower validation loss than A, by 0.1")
    assert [set(each.cell) for each in found.cells] == [{"study", "study_"}] * 4


@pytest.mark.parametrize(
    ("first", "second", "dropped"),
    [
        ({"a": [1, 2], "lr": [0.1]}, {"a": [1, 2], "lr": [0.2]}, ["lr"]),
        ({"a": [1, 2], "lr": [0.1]}, {"a": [1, 2]}, ["lr"]),
        ({"a": [1, 2], "lr": [0.1]}, {"a": [1, 2], "lr": [0.1]}, []),
        ({"a": [1, 2], "lr": [0.1]}, {"a": [1, 2], "lr": [0.1, 0.2]}, []),
        ({"a": [1, 2], "lr": [0.1], "w": [3]}, {"a": [1, 2], "w": [4], "lr": [0.2]}, ["lr", "w"]),
    ],
)
def test_axes_that_are_settings(first: dict[str, Any], second: dict[str, Any], dropped: list[str]) -> None:
    assert combined_axes(study("A", first, noisy(1)), study("B", second, noisy(2))) == ("study", dropped)


def test_an_enqueued_value_keeps_an_axis() -> None:
    one = study("A", {"a": [1, 2], "lr": [0.1]}, noisy(1))
    more = ComparedStudy("A", one.stored, [*one.trials, _trial("A", 99, {"a": 1, "lr": 0.5, "seed": 0}, 2.0)], {})
    other = study("B", {"a": [1, 2], "lr": [0.2]}, noisy(2))
    assert combined_axes(more, other) == ("study", [])
    with pytest.raises(UsageError, match="A and B have no cell in common"):
        compare_studies(more, other)
