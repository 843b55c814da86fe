"""The figures of docs/pruning.md come from the committed curves, and scores mean what they say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pruning.__main__ import DEFAULT, DEFAULT_ORDER, PRUNERS, RIVALS, all_pruners, half_grids, scored
from benchmarks.pruning.curves import DATA, FURTHER, Curves, load_curves
from benchmarks.pruning.draws import ORDERS, draw_queues
from benchmarks.pruning.madeup import madeup_curves
from benchmarks.pruning.optuna_replay import optuna_pruner
from benchmarks.pruning.replay import Outcome
from benchmarks.pruning.rules import NeverRule
from benchmarks.pruning.scores import score
from search.errors import UsageError
from search.study.definition import load_definition

DOCS = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text(encoding="utf-8")


def test_the_table_of_all_pruners_is_printed_again() -> None:
    for line in all_pruners(load_curves(DATA, *FURTHER), draws=1000, workers=2):
        assert line in DOCS


def test_the_default_is_the_builtin_studys_and_keeps_its_promise() -> None:
    pruner = load_definition("bigram").pruner
    assert f"{pruner.name} {pruner.arguments['keep']}, from {pruner.arguments['warmup_steps']}" == DEFAULT
    found = scored(load_curves(DATA, *FURTHER), PRUNERS[DEFAULT](), 1000, 2, order=DEFAULT_ORDER)
    assert found.survives >= 0.95
    assert found.compute <= 0.35


def test_halves_hold_for_other_draws_too() -> None:
    table = half_grids(load_curves(DATA, *FURTHER), draws=500, workers=3)
    rows = {line.split(" | ")[0].strip("| "): line for line in table}
    assert set(RIVALS) <= set(rows)
    shares = re.findall(r"([\d.]+)%", rows[DEFAULT])
    assert float(shares[1]) >= 98, rows[DEFAULT]


@pytest.mark.parametrize("order", ORDERS)
def test_a_draw_is_a_run_of_the_study(order: str) -> None:
    curves = load_curves(DATA, *FURTHER)
    queues = draw_queues(curves, 6, 2, order)  # type: ignore[arg-type]
    for draw in range(6):
        first, second = queues.cells[draw, :36], queues.cells[draw, 36:]
        assert sorted(first) == list(range(36)), "one repetition of everything comes first"
        assert sorted(second) == list(range(36))
        for place, cell in enumerate(queues.cells[draw]):
            [seed] = np.flatnonzero((curves.val_loss[cell] == queues.values[draw, place]).all(1))
            assert queues.seconds[draw, place] == curves.seconds[cell, seed]
        for cell in range(36):
            one, other = np.flatnonzero(queues.cells[draw] == cell)
            assert not np.array_equal(queues.values[draw, one], queues.values[draw, other]), "two different seeds"


def test_scores_of_a_small_run() -> None:
    """Three cells with one seed; the best is pruned half way, the worst runs to its end."""
    losses = np.array([[[4.0, 3.0, 2.0]], [[4.0, 3.1, 2.5]], [[4.0, 3.2, 2.7]]])
    seconds = np.array([[10.0], [20.0], [70.0]])
    curves = Curves(({"a": 0}, {"a": 1}, {"a": 2}), (0,), np.array([0, 50, 100]), losses, seconds)
    queues = draw_queues(curves, 1, 1, "grid")
    pruned = Outcome(np.array([[1, 2, 2]]), np.array([[True, False, False]]))
    found = score(curves, queues, pruned)
    assert found.compute == pytest.approx((5 + 20 + 70) / 100)
    assert (found.survives, found.found, found.complete) == (0.0, 0.0, 2.0)
    assert found.regret == found.worst_regret == pytest.approx(0.5)
    assert found.rank_error == pytest.approx((2 + 1 + 1) / 3)
    whole = score(curves, queues, Outcome(np.array([[2, 2, 2]]), np.zeros((1, 3), bool)))
    assert (whole.compute, whole.survives, whole.found, whole.rank_error, whole.regret) == (1.0, 1.0, 1.0, 0.0, 0.0)


def test_madeup_curves_are_what_they_are_called() -> None:
    def crossings(shape: str) -> float:
        curves = madeup_curves(shape, 3)  # type: ignore[arg-type]
        early, late = curves.val_loss[:, :, 2].mean(1), curves.true_losses
        return float(np.corrcoef(early, late)[0, 1])

    assert crossings("parallel") > 0.95
    assert 0.2 < crossings("crossing") < 0.95
    assert crossings("slow winners") < 0
    assert scored(madeup_curves("crossing", 3), NeverRule(), 20, 2).survives == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NoPruner()", "choices are none, .*did you mean 'NopPruner'"),
        ("MedianPruner(colour=3)", "got an unexpected keyword argument 'colour'; it takes n_startup_trials"),
        ("MedianPruner(open('x'))", "choices are none, "),
        ("(", "write NAME or NAME.ARGUMENTS., such as ThresholdPruner"),
    ],
)
def test_a_wrong_pruner_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^--pruner {re.escape(text)}: .*{message}"):
        optuna_pruner(text)
