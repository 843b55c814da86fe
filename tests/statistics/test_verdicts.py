"""Verdicts: which word for which results, and what reports say about them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_losses import CLEAR, Observation, grid

from search.reporting.verdict_text import verdicts_as_markdown
from search.statistics.answers import Verdict
from search.statistics.claim_answers import Answer
from search.statistics.losses import Losses
from search.statistics.verdicts import Verdicts, decide
from search.study.claims import Claim

ROPE = Claim(factor="pe_type", order=["rope", "sinpe"])
CLAIMS = [
    (ROPE, "yes, everywhere"),
    (Claim(factor="pe_type", order=["sinpe", "rope"]), "no, the opposite, everywhere"),
    (
        Claim(factor="pe_type", order=["rope", "randn"]),
        "not answerable (randn is not a value of pe_type in this study)",
    ),
    (Claim(factor="n_embd", not_always=[128, 64]), "yes"),
    (Claim(factor="n_embd", not_always=[64, 128]), "no, the opposite, the order holds everywhere"),
    (Claim(factor="n_embd", order=[64, 32]), "not answerable (32 is not a value of n_embd in this study)"),
    (Claim(cells=[{"pe_type": "rope", "n_embd": 64}, {"pe_type": "sinpe", "n_embd": 64}]), "yes"),
    (Claim(cells=[{"pe_type": "sinpe", "n_embd": 64}, {"pe_type": "rope", "n_embd": 64}]), "no, the opposite"),
    (
        Claim(cells=[{"pe_type": "rope", "n_embd": 64}, {"pe_type": "none", "n_embd": 64}]),
        "not answerable (one of the two cells is not in this study)",
    ),
    (
        Claim(text="In my own words.", factor="learning_rate", order=[1, 2]),
        "not answerable (1 is not a value of learning_rate in this study)",
    ),
]


def asked() -> list[Claim]:
    return [claim for claim, _ in CLAIMS]


def decided(
    observations: Iterable[Observation],
    claims: Sequence[Claim] = (ROPE,),
    others: Iterable[tuple[dict[str, object], str]] = (),
    margin: float | None = None,
) -> Verdicts:
    losses = Losses.of(observations, others=others)
    return decide(losses, losses, claims, margin=margin)


def answered(*args: object, **options: object) -> Answer:
    [answer] = decided(*args, **options).answers  # type: ignore[arg-type]
    return answer


def test_an_interval_of_two_cells_is_that_of_scipy() -> None:
    from scipy import stats  # a second, which only one process spends

    values = {"a": [1.0, 1.3, 1.2, 1.15], "b": [1.3, 1.6, 1.9]}
    losses = Losses.of(({"n": n}, seed + 10 * (n == "b"), v) for n, vs in values.items() for seed, v in enumerate(vs))
    [answer] = decide(losses, losses, ()).comparisons
    [found] = answer.comparisons
    expected = stats.ttest_ind(values["b"], values["a"])
    interval = expected.confidence_interval(0.95)
    assert (found.better, found.worse) == ("a", "b")
    assert (found.alone_low, found.alone_high) == pytest.approx((interval.low, interval.high), abs=0.01)
    assert (found.low, found.high) == (found.alone_low, found.alone_high)  # one comparison
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)


def test_claims_are_answered() -> None:
    verdicts = decided(grid(CLEAR), asked())
    assert [answer.words for answer in verdicts.answers] == [words for _, words in CLAIMS]
    assert "Randn is not a value of pe_type in this study" in verdicts.answers[2].sentence
    assert verdicts.answers[-1].claim == "In my own words."
    assert verdicts.best == {"pe_type": "rope", "n_embd": 64}
    [candidate] = verdicts.candidates
    assert (candidate.cell, candidate.probability, candidate.regret) == (verdicts.best, 1.0, 0.0)


def test_with_one_seed_nothing_is_decided() -> None:
    verdicts = decided(grid(CLEAR, seeds=1), asked())
    assert {answer.verdict for answer in verdicts.answers} == {Verdict.CANNOT_TELL, Verdict.NOT_ANSWERABLE}
    assert verdicts.answers[0].words == "cannot tell yet (one seed a cell)"
    assert (verdicts.best, verdicts.candidates, verdicts.comparisons) == ({"pe_type": "rope", "n_embd": 64}, (), ())
    [comparison] = verdicts.answers[0].comparisons
    assert (comparison.low, comparison.p, comparison.mean > 0.2) == (None, None, True)
    assert "95 %" not in verdicts_as_markdown(verdicts, None, asked())


def test_without_losses_nothing_is_said() -> None:
    losses = Losses.of([])
    verdicts = decide(losses, losses, asked(), ["No trial is complete yet."])
    assert (verdicts.best, verdicts.candidates, verdicts.comparisons) == (None, (), ())
    assert {answer.verdict for answer in verdicts.answers} == {Verdict.NOT_ANSWERABLE}
    assert "- No trial is complete yet." in verdicts_as_markdown(verdicts, None, asked())


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, Verdict.YES), (0.0, Verdict.CANNOT_TELL)])
def test_an_objective_without_randomness_is_judged(difference: float, verdict: Verdict) -> None:
    observations: list[Observation] = [
        ({"a": a, "b": b, "c": c}, seed, 2.0 + difference * a)
        for a in (0, 1) for b in (0, 1) for c in (0, 1, 2) for seed in (1, 2, 3)
    ]  # fmt: skip
    claims = [Claim(factor="a", order=[0, 1]), Claim(factor="b", order=[0, 1])]
    first, second = decided(observations, claims).answers
    assert (first.verdict, second.verdict) == (verdict, Verdict.CANNOT_TELL)


def test_seeds_that_agree_by_rounding_are_no_certainty() -> None:
    """Whole numbers: two seeds with the same value do not show that there is no noise."""
    observations = [
        ({"a": a, "b": b}, seed, float(a == 1 and b == 0)) for a in (0, 1) for b in (0, 1) for seed in (1, 2)
    ]
    assert answered(observations, [Claim(factor="a", order=[0, 1])]).verdict is Verdict.CANNOT_TELL


EFFECTS = {(pe, n): 2.0 + 0.1 * at for at, n in enumerate((8, 16, 32)) for pe in ("rope", "sinpe")}


def shifted(**by_n: float) -> list[Observation]:
    """Rope and sinpe at n_embd 8, 16 and 32; sinpe is worse by so much."""
    gains = dict(zip((8, 16, 32), by_n.values(), strict=True))
    return grid({(pe, n): loss + gains[n] * (pe == "sinpe") for (pe, n), loss in EFFECTS.items()})


@pytest.mark.parametrize(
    ("gains", "margin", "words", "sentence"),
    [
        ((0.1, 0.2, 0.1), None, "yes, everywhere", "rope has a lower validation loss than sinpe, by 0.1"),
        ((0.1, 0.2, 0.0), None, "yes, on average", "By themselves 2 show it: n_embd is 8 or 16."),
        ((0.1, 0.2, -0.1), None, "only where n_embd is 8 or 16", "The opposite holds where n_embd is 32."),
        ((0.0, 0.6, 0.0), None, "yes, on average", "One setting makes half of it or more, n_embd 16: without it"),
        ((0.0, 0.0, 0.0), None, "cannot tell yet", "Chance can explain it. With 10 seeds a cell, a difference of"),
        ((0.0, 0.0, 0.0), 0.05, "no clear difference (less than 0.05)", ""),
        (
            (-0.1, -0.2, -0.1),
            0.05,
            "no, the opposite, everywhere",
            "sinpe has a lower validation loss than rope, by 0.1",
        ),
    ],
)
def test_where_a_claim_holds(gains: Sequence[float], margin: float | None, words: str, sentence: str) -> None:
    answer = answered(shifted(**dict(zip("abc", gains, strict=True))), margin=margin)
    assert answer.words == words
    assert sentence in answer.sentence
    assert "on average over 3 settings" in answer.sentence


def test_a_cell_that_lacks_a_seed_keeps_those_that_it_has() -> None:
    [comparison] = answered(grid(CLEAR)[:-3]).comparisons
    assert [each.seeds for each in comparison.settings] == [(5, 5), (5, 2)]
    assert comparison.low is not None
    assert comparison.low > 0


def test_a_seed_that_has_only_begun_changes_little() -> None:
    worst = {"pe_type": "sinpe", "n_embd": 128}
    found, before = (answered([*grid(CLEAR), *more]) for more in ([(worst, 999, 2.5)], []))
    assert found.words == before.words
    assert found.comparisons[0].mean == pytest.approx(before.comparisons[0].mean, abs=0.05)
    # A second seed that has begun is no reason to answer a study of one seed without a look at the noise.
    [comparison] = answered([*grid(CLEAR, seeds=1), (worst, 999, 2.5)]).comparisons
    assert comparison.low is not None


WORST = {"pe_type": "sinpe", "n_embd": 128}
BEST = {"pe_type": "rope", "n_embd": 64}


@pytest.mark.parametrize(
    ("cell", "state", "words", "sentence"),
    [
        (
            WORST,
            "pruned",
            "not answerable (pruned: 1 of 2 settings are left)",
            "1 of 2 planned settings can be compared",
        ),
        (WORST, "waiting", "yes, everywhere", ""),
        (WORST, "diverged", "yes, everywhere", "In 1 setting trials of sinpe diverged or failed"),
        (WORST, "failed", "yes, everywhere", "In 1 setting trials of sinpe diverged or failed"),
        (BEST, "diverged", "only where n_embd is 128", "In 1 setting trials of rope diverged or failed"),
    ],
)
def test_trials_without_a_loss(cell: dict[str, object], state: str, words: str, sentence: str) -> None:
    verdicts = decided(grid(CLEAR), others=[(cell, state)])
    assert verdicts.answers[0].words == words
    assert sentence in verdicts.answers[0].sentence
    assert (cell == verdicts.best) is (cell == BEST and state != "diverged")


def test_a_cell_that_has_no_loss_yet_keeps_a_claim_open() -> None:
    answer = answered(grid(CLEAR)[:-5], others=[(WORST, "running")])
    assert answer.words == "cannot tell yet (1 of 2 settings are not finished)"
    assert "1 of 2 planned settings" in answer.sentence


def test_what_diverged_everywhere_is_worse_and_both_are_not_answerable() -> None:
    rope = [each for each in grid(CLEAR) if each[0]["pe_type"] == "rope"]
    lost: list[tuple[dict[str, object], str]] = [({"pe_type": "sinpe", "n_embd": n}, "diverged") for n in (64, 128)]
    assert answered(rope, others=lost).words == "yes, everywhere"
    too: list[tuple[dict[str, object], str]] = [({"pe_type": "rope", "n_embd": n}, "failed") for n in (64, 128)]
    both = decided(rope, others=[*lost, *too])
    assert both.answers[0].words == "not answerable (trials of both diverged or failed)"
    assert (both.best, both.candidates) == (None, ())


def test_a_gain_that_changes_along_an_axis() -> None:
    claims = [
        Claim(factor="pe_type", order=["rope", "sinpe"], along="n_embd", change=change)
        for change in ("grows", "shrinks")
    ]
    grows, shrinks = decided(shifted(a=0.1, b=0.2, c=0.3), claims).answers
    assert (grows.words, shrinks.words) == ("yes, on average", "no, the opposite, on average")
    assert "The gain of rope over sinpe grows by 0.1" in grows.sentence
    assert "with each doubling of n_embd" in grows.sentence
    assert decided(shifted(a=0.1, b=0.1, c=0.1), claims[:1]).answers[0].words == "cannot tell yet"
    level = decided(shifted(a=0.1, b=0.1, c=0.1), claims[:1], margin=0.05).answers[0]
    assert level.words == "no clear difference (less than 0.05 with each doubling of n_embd)"
    pruned = decided(shifted(a=0.1, b=0.2, c=0.3), claims[:1], others=[({"pe_type": "rope", "n_embd": 8}, "pruned")])
    assert pruned.answers[0].verdict is Verdict.NOT_ANSWERABLE


def test_seeds_that_end_in_two_places_are_flagged() -> None:
    two = [({"pe_type": "none", "n_embd": 64}, seed, 2.0 + 0.5 * (seed % 2) + 0.001 * seed) for seed in range(6)]
    [modes] = decided([*grid(CLEAR), *two]).modes
    assert (modes.cell["pe_type"], modes.seeds, round(modes.high - modes.low, 2)) == ("none", (3, 3), 0.5)


@given(data=st.data(), cells=st.integers(1, 6), seeds=st.integers(2, 6))
@settings(max_examples=30)
def test_the_best_cell_is_always_a_candidate(data: st.DataObject, cells: int, seeds: int) -> None:
    values = data.draw(st.lists(st.floats(0, 5), min_size=cells * seeds, max_size=cells * seeds))
    table = np.array(values).reshape(cells, seeds)
    verdicts = decided(({"n": cell}, seed, float(table[cell, seed])) for cell in range(cells) for seed in range(seeds))
    assert verdicts.candidates[0].cell == verdicts.best
    assert verdicts.best is not None
    mean = table.mean(axis=1)
    assert mean[verdicts.best["n"]] == pytest.approx(mean.min())
    assert sum(each.probability for each in verdicts.candidates) <= 1 + 1e-9
    assert len({each.cell["n"] for each in verdicts.candidates}) == len(verdicts.candidates)


def test_the_text_names_claims_candidates_and_notes() -> None:
    close = {("rope", 64): 2.0, ("rope", 128): 2.0005, ("sinpe", 64): 2.3, ("sinpe", 128): 2.5}
    losses = Losses.of(grid(close, noise=0.05))
    text = verdicts_as_markdown(decide(losses, losses, asked(), ["a note"]), None, asked())
    assert "| pe_type: rope is better than sinpe | **yes, everywhere** |" in text
    assert "The best cell is one of these with 95 %:\n\n| cell |" in text
    assert all(f"\n| rope n_embd={n} | " in text for n in (64, 128))
    assert text.endswith("- a note\n")


def test_a_large_study_is_judged_quickly() -> None:
    rng = np.random.default_rng(0)
    observations: list[Observation] = [
        ({"a": a, "b": b, "c": c}, seed, float(rng.normal()))
        for a in range(10) for b in range(10) for c in range(10) for seed in range(10)
    ]  # fmt: skip
    began = time.monotonic()
    decided(observations, [Claim(factor="a", order=[0, 1])])
    assert time.monotonic() - began < 30  # about 2 s; a walk through all pairs of trials would take minutes
