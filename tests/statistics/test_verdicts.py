from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.verdicts import MadeUp, score
from search.reporting.verdict_text import verdicts_as_markdown
from search.statistics.comparisons import (
    CANNOT_TELL,
    NOT_SUPPORTED,
    SUPPORTED,
    Comparison,
    compare_all,
    compare_levels,
    corrected,
)
from search.statistics.inference import holm, not_separable, paired, seeds_needed
from search.statistics.losses import Losses, best_cells
from search.statistics.verdicts import decide
from search.study.claims import Claim

Observation = tuple[dict[str, object], int, float]


def grid(effects: dict[tuple[str, int], float], seeds: int = 5, noise: float = 0.01) -> list[Observation]:
    """Losses of a grid of pe_type and n_embd, with an effect for each cell and a shift for each seed."""
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.1, seeds)
    return [
        ({"pe_type": pe_type, "n_embd": n_embd}, 100 + seed, effect + shifts[seed] + rng.normal(0, noise))
        for (pe_type, n_embd), effect in effects.items()
        for seed in range(seeds)
    ]


def judged(losses: Losses) -> list[Comparison]:
    """All comparisons of these losses, corrected."""
    return corrected(list(compare_all(losses).by_levels.values()), losses)


CLEAR = {("rope", 64): 2.0, ("rope", 128): 2.2, ("sinpe", 64): 2.3, ("sinpe", 128): 2.5}


def test_a_paired_test_is_that_of_scipy() -> None:
    from scipy import stats  # a second, which only one process spends

    differences = np.array([0.1, 0.3, 0.2, 0.15])
    found = paired(differences)
    expected = stats.ttest_1samp(differences, 0.0)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    losses = Losses.of(grid(CLEAR, seeds=1))
    assert judged(losses) == []
    alone = compare_levels(losses, "pe_type", "rope", "sinpe")
    assert alone is not None
    [comparison] = corrected([alone], losses)
    assert (comparison.low, comparison.p_adjusted, comparison.verdict) == (None, None, CANNOT_TELL)
    assert "one seed cannot separate chance from effect" in comparison.sentence


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, SUPPORTED), (0.0, CANNOT_TELL)])
def test_an_objective_without_randomness_is_judged(difference: float, verdict: str) -> None:
    observations = [
        ({"a": level, "b": b}, seed, 2.0 + difference * level) for level in (0, 1) for b in (0, 1) for seed in (1, 2)
    ]
    by_factor = {each.factor: each for each in judged(Losses.of(observations))}
    assert by_factor["a"].verdict == verdict
    assert by_factor["b"].verdict == CANNOT_TELL


def test_more_seeds_are_needed_for_smaller_effects() -> None:
    assert [seeds_needed(effect) for effect in (10.0, 1.0, 0.5, 0.01)] == [3, 10, 34, None]


def test_holm_corrects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(data=st.data(), cells=st.integers(1, 6), seeds=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_the_best_cell_is_always_among_the_tied(data: st.DataObject, cells: int, seeds: int) -> None:
    values = data.draw(st.lists(st.floats(0, 5), min_size=cells * seeds, max_size=cells * seeds))
    losses = np.array(values).reshape(cells, seeds)
    tied = not_separable(losses)
    assert tied[0] == int(np.argmin(losses.mean(axis=1)))
    assert len(set(tied)) == len(tied)


def test_a_cell_that_lacks_a_seed_is_left_out() -> None:
    observations = grid(CLEAR)
    losses = Losses.of(observations[:-3])
    assert len(losses.complete_for_all_seeds) == 3
    comparison = compare_levels(losses, "pe_type", "rope", "sinpe")
    assert comparison is not None
    assert (comparison.cells, comparison.pairs) == (1, 5)
    assert compare_levels(losses, "pe_type", "rope", "randn") is None


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_seed_that_has_only_begun_is_left_out(seeds: int) -> None:
    observations = grid(CLEAR, seeds=seeds)
    worst = {"pe_type": "sinpe", "n_embd": 128}
    losses = Losses.of([*observations, (worst, 999, 2.5)])
    assert (losses.dropped, len(losses.seeds), len(losses.complete_for_all_seeds)) == ([999], seeds, 4)
    assert judged(losses) == judged(Losses.of(observations))
    assert best_cells(losses)[0] == {"pe_type": "rope", "n_embd": 64}


CLAIMS = [
    (Claim(factor="pe_type", order=["rope", "sinpe"]), SUPPORTED),
    (Claim(factor="pe_type", order=["sinpe", "rope"]), NOT_SUPPORTED),
    (Claim(factor="pe_type", order=["rope", "randn"]), CANNOT_TELL),
    (Claim(factor="n_embd", not_always=[128, 64]), SUPPORTED),
    (Claim(factor="n_embd", not_always=[64, 128]), NOT_SUPPORTED),
    (Claim(factor="n_embd", order=[64, 32]), CANNOT_TELL),
    (Claim(cells=[{"pe_type": "rope", "n_embd": 64}, {"pe_type": "sinpe", "n_embd": 64}]), SUPPORTED),
    (Claim(cells=[{"pe_type": "sinpe", "n_embd": 64}, {"pe_type": "rope", "n_embd": 64}]), NOT_SUPPORTED),
    (Claim(cells=[{"pe_type": "rope", "n_embd": 64}, {"pe_type": "none", "n_embd": 64}]), CANNOT_TELL),
    (Claim(text="In my own words.", factor="learning_rate", order=[1, 2]), CANNOT_TELL),
]


def test_claims_are_answered() -> None:
    losses = Losses.of(grid(CLEAR))
    verdicts = decide(losses, losses, [claim for claim, _ in CLAIMS])
    assert [answer.verdict for answer in verdicts.answers] == [verdict for _, verdict in CLAIMS]
    assert "randn is not a value of pe_type in this study" in verdicts.answers[2].sentence
    assert verdicts.answers[-1].claim == "In my own words."
    assert verdicts.best == {"pe_type": "rope", "n_embd": 64}
    assert verdicts.tied == (verdicts.best,)


def test_with_one_seed_no_claim_is_supported() -> None:
    losses = Losses.of(grid(CLEAR, seeds=1))
    verdicts = decide(losses, losses, [claim for claim, _ in CLAIMS])
    assert {answer.verdict for answer in verdicts.answers} == {CANNOT_TELL}
    assert (verdicts.best, verdicts.tied) == ({"pe_type": "rope", "n_embd": 64}, ())
    assert "separable" not in verdicts_as_markdown(verdicts)


def test_without_losses_nothing_is_said() -> None:
    losses = Losses.of([])
    verdicts = decide(losses, losses, [claim for claim, _ in CLAIMS], ["No trial is complete yet."])
    assert (verdicts.best, verdicts.tied, verdicts.comparisons) == (None, (), ())
    assert {answer.verdict for answer in verdicts.answers} == {CANNOT_TELL}
    assert "- No trial is complete yet." in verdicts_as_markdown(verdicts)


def test_the_text_names_claims_ties_and_notes() -> None:
    close = {("rope", 64): 2.0, ("rope", 128): 2.0005, ("sinpe", 64): 2.3, ("sinpe", 128): 2.5}
    losses = Losses.of(grid(close, noise=0.05))
    text = verdicts_as_markdown(decide(losses, losses, [claim for claim, _ in CLAIMS], ["a note"]))
    assert "| pe_type: rope is better than sinpe | **supported** |" in text
    assert "Not separable from the best, best first:\n\n- rope" in text
    assert text.endswith("- a note\n")


@pytest.mark.parametrize("effect", [0.0, 0.05])
def test_verdicts_keep_their_word(effect: float) -> None:
    """A quick look; `python -m benchmarks.verdicts` takes a thorough one."""
    found = score(MadeUp((3, 2, 2), 5, effect=effect), draws=250, seed=1)
    assert 0.93 <= found.covered / found.intervals <= 0.97
    assert found.false / found.studies <= 0.08  # 5 %, and three standard errors of so few draws
    assert found.best_tied / found.studies >= 0.95


def test_a_large_study_is_judged_quickly() -> None:
    rng = np.random.default_rng(0)
    observations = [
        ({"a": a, "b": b, "c": c}, seed, float(rng.normal()))
        for a in range(10) for b in range(10) for c in range(10) for seed in range(10)
    ]  # fmt: skip
    began = time.monotonic()
    losses = Losses.of(observations)
    judged(losses)
    best_cells(losses)
    assert time.monotonic() - began < 20  # about 1 s; a walk through all pairs of trials would take minutes
