"""The functions of `benchmarks.samplers` have the minima that they name, and studies find what Optuna would."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial

import optuna
import pytest

from benchmarks.sampler_functions import FUNCTIONS, RANGES
from benchmarks.samplers import KINDS, best_here, best_in_optuna

MINIMA = {
    "branin": ({"x0": math.pi, "x1": 2.275}, 0.397887),
    "hartmann6": (
        {"x0": 0.20169, "x1": 0.150011, "x2": 0.476874, "x3": 0.275332, "x4": 0.311652, "x5": 0.6573},
        -3.32237,
    ),
    "ackley5": ({f"x{i}": 0.0 for i in range(5)}, 0.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_minimum_of_a_function(name: str) -> None:
    place, least = MINIMA[name]
    assert set(place) == set(RANGES[name])
    assert FUNCTIONS[name](place) == pytest.approx(least, abs=1e-5)
    moved = {axis: value + 0.1 for axis, value in place.items()}
    assert FUNCTIONS[name](moved) > least + 0.001


@pytest.mark.parametrize("workers", [1, 3])
def test_both_sides_search(workers: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sides: list[Callable[[str, str, int, int, int], float]] = [partial(best_here, kind=kind) for kind in KINDS]
    for best in [*sides, best_in_optuna]:
        few, more = (best("branin", "random", workers, trials, 7) for trials in (3, 12))
        assert 0.397 < more <= few
        assert best("branin", "random", workers, 12, 7) == more


def test_trials_at_the_same_time_leave_the_command_line_as_it_was() -> None:
    before = sys.argv, ArgumentParser.error, ArgumentParser.parse_known_args
    best_here("branin", "random", 3, 6, 7, "suggested")
    assert before == (sys.argv, ArgumentParser.error, ArgumentParser.parse_known_args)
