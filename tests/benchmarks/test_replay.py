"""The replay on arrays decides as the real pruners do, and its figures follow from the curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)

from benchmarks.pruning.curves import load_curves
from benchmarks.pruning.draws import draw_queues
from benchmarks.pruning.optuna_replay import MemoryHistory, replay_with_pruner
from benchmarks.pruning.replay import Rule, replay
from benchmarks.pruning.rules import (
    HalvingRule,
    NeverRule,
    PatientRule,
    PercentileRule,
    TopCellsRule,
    WilcoxonRule,
)
from search.strategies.top_cells import TopCellsPruner

DRAWS = 4

Make = Callable[[MemoryHistory], BasePruner]
PAIRS: dict[str, tuple[Callable[[], Rule], Make]] = {
    "none": (NeverRule, lambda _: NopPruner()),
    "median": (lambda: PercentileRule(50, 1000, 4), lambda _: MedianPruner(4, 1000, n_min_trials=4)),
    "percentile": (lambda: PercentileRule(25, 500, 1), lambda _: PercentilePruner(25, 1, 500)),
    "halving": (lambda: HalvingRule(500, 2), lambda _: SuccessiveHalvingPruner(500, 2)),
    "thirds": (lambda: HalvingRule(500, 3, bootstrap=3), lambda _: SuccessiveHalvingPruner(500, 3, 0, 3)),
    "hyperband": (lambda: HalvingRule(500, 3, brackets=3), lambda _: HyperbandPruner(500, 5000, 3)),
    "patient": (
        lambda: PatientRule(PercentileRule(50, 500, 4), 1),
        lambda _: PatientPruner(MedianPruner(4, 500, n_min_trials=4), 1),
    ),
    "wilcoxon": (lambda: WilcoxonRule(0.1, 2), lambda _: WilcoxonPruner(p_threshold=0.1, n_startup_steps=2)),
    "top": (lambda: TopCellsRule(3, 500), lambda history: TopCellsPruner(history, 3, 500)),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("order", "workers", "repetitions"), [("grid", 1, 1), ("shuffled", 5, 1), ("cheapest", 3, 4)])
def test_rules_decide_like_the_pruners_that_they_stand_for(
    name: str, order: str, workers: int, repetitions: int
) -> None:
    rule, make = PAIRS[name]
    queues = draw_queues(load_curves(), DRAWS, repetitions, order, seed=7)  # type: ignore[arg-type]

    ours, theirs = replay(queues, rule(), workers), replay_with_pruner(queues, make, workers)

    assert np.array_equal(ours.last, theirs.last)
    assert np.array_equal(ours.pruned, theirs.pruned)
    assert ours.pruned.any() == (name != "none")
