"""Which curves of the best cell survive, in draws and by proof, and the bound that follows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.pruning.__main__ import DEFAULT, PRUNERS, winners_curves
from benchmarks.pruning.curves import DATA, FURTHER, Curves, load_curves
from benchmarks.pruning.draws import draw_queues
from benchmarks.pruning.rules import TopCellsRule
from benchmarks.pruning.winner import highest_risk, kept_shares, never_pruned, winner_table
from search.errors import UsageError

DOCS = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text(encoding="utf-8")
HEADER = "study,width,seed,step,train_loss,val_loss,seconds"


def three_cells() -> Curves:
    """The best cell comes last and has three seeds, of which the second begins worse than both rivals."""
    nan = [np.nan] * 3
    losses = np.array(
        [
            [[4.0, 3.1, 2.5], nan, nan],
            [[4.0, 3.2, 2.7], nan, nan],
            [[4.0, 3.0, 2.0], [4.0, 3.6, 2.1], [4.0, 3.15, 2.2]],
        ]
    )
    cells = tuple({"block_size": 8, "n_embd": width} for width in (1, 2, 3))
    return Curves(cells, (0, 1, 2), np.array([0, 50, 100]), losses, np.full((3, 3), 10.0))


def test_each_curve_of_the_best_cell_is_judged() -> None:
    curves = three_cells()
    assert list(kept_shares(curves, TopCellsRule(1, 50), 30, 1, "grid")) == [1.0, 0.0, 0.0]
    assert list(kept_shares(curves, TopCellsRule(2, 50), 30, 1, "grid")) == [1.0, 0.0, 1.0]
    assert list(never_pruned(curves, 1, 50)) == [True, False, False]
    assert list(never_pruned(curves, 2, 50)) == [True, False, True]
    assert never_pruned(curves, 1, 100).all(), "the last step is never judged"
    [_, _, row] = winner_table(curves, {"top 2": lambda: TopCellsRule(2, 50)}, 30, 1)
    assert row.startswith("| top 2 | 2, 66.7% | 2, 66.7% | ")
    assert row.endswith(f" | 2 of 3 | {highest_risk(1, 3):.0%} |")


def test_what_cannot_be_pruned_is_not() -> None:
    curves = load_curves(DATA, *FURTHER)
    safe = never_pruned(curves, 5, 500)
    assert f"{safe.sum()} of its {len(safe)} measured curves" in DOCS
    for order, workers in [("grid", 2), ("shuffled", 1), ("spread", 36)]:
        shares = kept_shares(curves, PRUNERS[DEFAULT](), 10 * len(safe), workers, order)  # type: ignore[arg-type]
        assert (shares[safe] == 1).all()


def test_the_row_of_the_default_is_printed_again() -> None:
    curves = load_curves(DATA, *FURTHER)
    for line in winner_table(curves, {DEFAULT: PRUNERS[DEFAULT]}, draws=1000, workers=2):
        assert line in DOCS
    assert next(winners_curves(curves, 30, 2)).strip() in DOCS


@pytest.mark.parametrize(("lost", "curves"), [(0, 5), (0, 30), (2, 30), (29, 30)])
def test_the_bound_is_the_exact_one(lost: int, curves: int) -> None:
    assert binom.cdf(lost, curves, highest_risk(lost, curves)) == pytest.approx(0.05)
    assert highest_risk(curves, curves) == 1.0


def test_the_measured_curves_of_the_best_cell() -> None:
    curves = load_curves(DATA, *FURTHER)
    best = int(curves.true_losses.argmin())
    assert curves.cells[best] == {"model": "bigram_v2", "block_size": 64, "n_embd": 64, "pe_type": "rope"}
    assert [curves.seeds[seed] for seed in np.flatnonzero(curves.measured[best])] == list(range(1337, 1367))
    assert sorted(curves.measured.sum(1)) == [5] * 32 + [11, 11, 12, 30]
    # No curve comes twice: no two of a cell are equal.
    assert len({tuple(curve) for curve in curves.val_loss[best]}) == 30
    # The later curves come from a busier machine: they have the pace of the first.
    first = load_curves()
    assert np.allclose(curves.seconds.mean(1), first.seconds.mean(1))
    common = curves.at_common_seeds()
    assert common.seeds == first.seeds
    assert np.array_equal(common.val_loss, first.val_loss)


def test_draws_use_all_curves_that_a_cell_has() -> None:
    curves = load_curves(DATA, *FURTHER)
    queues = draw_queues(curves, 500, 1, "grid")
    assert not np.isnan(queues.values).any()
    for cell, own in enumerate(curves.measured.sum(1)):
        assert len(np.unique(queues.values[:, cell, -1])) == own


def lines(*trials: tuple[int, int, float]) -> str:
    """A file with the steps 0 and 10 of trials: width, seed, last loss; each takes as many seconds as its width."""
    steps = [
        f"s,{width},{seed},{step},1.0,{loss},{width}.0"
        for width, seed, last in trials
        for step, loss in ((0, 4.0), (10, last))
    ]
    return "\n".join([HEADER, *steps])


def test_further_curves_join_those_of_the_same_cell(tmp_path: Path) -> None:
    first, more = tmp_path / "first.csv", tmp_path / "more.csv"
    first.write_text(lines((8, 1, 3.0), (8, 2, 3.1), (16, 1, 2.0), (16, 2, 2.1)))
    more.write_text(lines((16, 2, 2.1), (16, 3, 2.2)).replace(",16.0", ",99.0"))
    curves = load_curves(first, more)
    assert curves.seeds == (1, 2, 3)
    assert curves.measured.tolist() == [[True, True, False], [True, True, True]]
    assert curves.true_losses == pytest.approx([3.05, 2.1])
    assert curves.fewest_seeds == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines((16, 2, 2.5)), "has other losses of {'width': 16}, seed 2, than the file before it"),
        (lines((32, 1, 2.5)), "has a cell that FIRST lacks: {'width': 32}"),
        (lines((16, 3, 2.5)).rsplit("\n", 1)[0], "{'width': 16}, seed 3, lacks steps"),
    ],
)
def test_curves_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    first, more = tmp_path / "first.csv", tmp_path / "more.csv"
    first.write_text(lines((8, 1, 3.0), (8, 2, 3.1), (16, 1, 2.0), (16, 2, 2.1)))
    more.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message.replace("FIRST", str(first)))):
        load_curves(first, more)
