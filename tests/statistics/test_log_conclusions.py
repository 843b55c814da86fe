"""The answers to the claims of the built-in study, from its measured curves, against independent computations."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.pruning.curves import DATA
from search.statistics.answers import Verdict
from search.statistics.claim_answers import Answer
from search.statistics.losses import Losses
from search.statistics.verdicts import Verdicts, decide
from search.storage.values import canonical
from search.study.definition import load_definition

Floats = npt.NDArray[np.float64]
AXES: dict[str, list[Any]] = {
    "block_size": [8, 16, 32, 64],
    "n_embd": [64, 128, 256],
    "pe_type": ["rope", "sinpe", "randn"],
}
COMPARISONS = 12  # pairs of levels; the independent tests are corrected for them by Bonferroni's rule


def observations(study: str) -> list[tuple[dict[str, Any], int, float]]:
    """The final losses of a study of the committed curves."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["step"] == "5000" and row["study"] == study]
    axes = ("block_size", "model", "n_embd", "pe_type")
    return [
        ({axis: int(text) if (text := row[axis]).isdigit() else text for axis in axes if row[axis]},
         int(row["seed"]), float(row["val_loss"]))
        for row in rows
    ]  # fmt: skip


@pytest.fixture(scope="module")
def verdicts() -> Verdicts:
    grid = observations("bigram")
    definition = load_definition("bigram")
    everything = Losses.of([*grid, *observations("bigram-baselines")])
    return decide(Losses.of(grid), everything, definition.claims, margin=definition.equivalence_margin)


def answer(verdicts: Verdicts, words: str) -> Answer:
    [found] = [each for each in verdicts.answers if words in each.claim]
    return found


def seeds_of(**cell: Any) -> Floats:
    found = {seed: loss for each, seed, loss in (*observations("bigram"), *observations("bigram-baselines"))
             if canonical(each) == canonical(cell)}  # fmt: skip
    return np.array([found[seed] for seed in sorted(found)])


@pytest.fixture(scope="module")
def table() -> Mapping[tuple[Any, ...], Floats]:
    found: dict[tuple[Any, ...], list[float]] = {}
    for cell, _, loss in observations("bigram"):
        found.setdefault(tuple(cell[axis] for axis in AXES), []).append(loss)
    return {key: np.array(losses) for key, losses in found.items()}


@dataclass(frozen=True)
class Independent:
    """The losses of one level minus those of another in each setting, by methods that share no code with ours.

    Attributes:
        mean: Over the settings.
        positive: The number of settings in which it is above 0.
        welch: p of the mean: each cell's own variance, degrees of freedom by Satterthwaite.
        permutation: p of the mean, by 5,000 permutations of the trials of both levels within each setting.
        mixed: p of the mean effect in settings like these: a mixed model with a random effect of the setting, by the
            likelihood ratio.
    """

    mean: float
    positive: int
    welch: float
    permutation: float
    mixed: float


def compare(table: Mapping[tuple[Any, ...], Floats], axis: str, better: Any, worse: Any) -> Independent:
    others = [values for name, values in AXES.items() if name != axis]
    place = list(AXES).index(axis)
    points = [list(rest) for rest in itertools.product(*others)]
    low, high = (
        np.array([table[(*rest[:place], level, *rest[place:])] for rest in points]) for level in (better, worse)
    )
    gains = high.mean(axis=1) - low.mean(axis=1)
    variances = np.array([low.var(axis=1, ddof=1), high.var(axis=1, ddof=1)]) / low.shape[1]  # of the means
    rng, both = np.random.default_rng(0), np.concatenate([low, high], axis=1)
    null = []
    for _ in range(5000):
        one, other = np.split(rng.permuted(both, axis=1), 2, axis=1)
        null.append(one.mean() - other.mean())
    as_large = np.count_nonzero(np.abs(null) >= abs(gains.mean()) - 1e-12)
    return Independent(
        float(gains.mean()),
        int((gains > 0).sum()),
        welch(gains.mean(), variances / len(gains) ** 2, low.shape[1] - 1),
        float(1 + as_large) / (1 + len(null)),
        mixed(gains, variances.sum(axis=0)),
    )


def welch(mean: float, variances: Floats, freedom: int) -> float:
    """p of a sum of independent means with these variances, each estimated with `freedom` degrees of freedom."""
    from scipy import stats  # a second, which only one process spends

    df = variances.sum() ** 2 / (variances**2 / freedom).sum()
    return float(2 * stats.t.sf(abs(mean) / np.sqrt(variances.sum()), df))


def mixed(gains: Floats, variances: Floats) -> float:
    """p of no mean effect, by maximum likelihood: gains ~ N(mean, spread² + variances)."""
    from scipy import optimize, stats

    def loss(mean: float, log_spread: float) -> float:
        total = np.exp(log_spread) + variances
        return float((np.log(total) + (gains - mean) ** 2 / total).sum())

    free = optimize.minimize(lambda at: loss(*at), [gains.mean(), np.log(gains.var())], method="Nelder-Mead")
    null = optimize.minimize_scalar(lambda at: loss(0.0, at), bounds=(-25, 5), method="bounded")
    return float(stats.chi2.sf(null.fun - free.fun, 1))


STEPS = [
    # claim, axis, better, worse, whether it shows in these settings, whether it shows in settings like these
    ("rotary encoding is better", "pe_type", "rope", "sinpe", True, True),
    ("sinusoid table is better", "pe_type", "sinpe", "randn", True, False),
    ("longer context", "block_size", 64, 32, False, False),
    ("longer context", "block_size", 32, 16, True, True),
    ("longer context", "block_size", 16, 8, True, True),
]


@pytest.mark.parametrize(("claim", "axis", "better", "worse", "shows", "shows_elsewhere"), STEPS)
def test_steps_of_claims_about_factors(
    verdicts: Verdicts, table: Any, claim: str, axis: str, better: Any, worse: Any, shows: bool, shows_elsewhere: bool
) -> None:
    independent = compare(table, axis, better, worse)
    assert (independent.welch * COMPARISONS < 0.05) is shows
    assert (independent.permutation * COMPARISONS < 0.05) is shows
    assert (independent.mixed < 0.05) is shows_elsewhere
    [found] = [each for each in answer(verdicts, claim).comparisons if {each.better, each.worse} == {better, worse}]
    sign = 1 if found.better == better else -1
    assert sign * found.mean == pytest.approx(independent.mean, abs=1e-9)
    assert (found.agree if sign > 0 else len(found.settings) - found.agree) == independent.positive
    assert found.is_clear is shows
    assert found.general is not None
    assert (found.general[0] > 0) is shows_elsewhere


def test_claims_about_factors(verdicts: Verdicts) -> None:
    assert answer(verdicts, "rotary encoding is better").words == "yes, on average"
    assert answer(verdicts, "sinusoid table is better").words == "yes, on average"
    sentence = answer(verdicts, "sinusoid table is better").sentence
    assert "on average over 12 settings with 5 seeds a cell, and in 9 of them" in sentence
    assert "One setting makes half of it or more, block_size 64, n_embd 256: without it 0.0286" in sentence
    assert "In further settings like these it may be otherwise [-0.0180, 0.1381]." in sentence
    longer = answer(verdicts, "longer context")
    assert longer.verdict is Verdict.CANNOT_TELL
    assert "block_size 32 has a lower validation loss than 64, by 0.0344" in longer.sentence
    assert "in 3 of them. Chance can explain it." in longer.sentence


def test_a_wider_embedding_is_not_always_better(verdicts: Verdicts, table: Any) -> None:
    found = answer(verdicts, "wider embedding")
    assert found.verdict is Verdict.YES
    wider_is_worse = [compare(table, "n_embd", *pair) for pair in ((128, 256), (64, 256), (64, 128))]
    assert all(each.welch * COMPARISONS < 0.05 and each.mean > 0 for each in wider_is_worse)
    # Settings that the sentence counts show it by themselves, by Welch's test of the two cells.
    from scipy import stats

    alone = [
        stats.ttest_ind(table[block, 256, pe], table[block, 64, pe], equal_var=False).pvalue < 0.05
        for block in AXES["block_size"] for pe in AXES["pe_type"]
    ]  # fmt: skip
    said = re.search(r"n_embd 256 is worse than 64 in (\d+) of 12 settings beyond chance", found.sentence)
    assert said is not None
    assert 1 <= int(said[1]) <= sum(alone)


def exact_permutation(one: Floats, other: Floats) -> float:
    """p of the difference of two means over all ways to part the trials."""
    both, n = np.concatenate([one, other]), len(one)
    parts = itertools.combinations(range(len(both)), n)
    means = [both[list(part)].mean() - np.delete(both, part).mean() for part in parts]
    return float(np.mean(np.abs(means) >= abs(one.mean() - other.mean()) - 1e-12))


def test_claims_about_two_cells(verdicts: Verdicts) -> None:
    from scipy import stats

    mf = seeds_of(model="bigram_mf", n_embd=384, block_size=8)
    bigram = seeds_of(model="bigram", block_size=8)
    randn = seeds_of(model="bigram_v2", block_size=16, n_embd=64, pe_type="randn")
    cases: Sequence[tuple[str, Floats, Verdict]] = [
        ("table of next characters", bigram, Verdict.YES),
        ("Attention with a fixed random encoding", randn, Verdict.CANNOT_TELL),
    ]
    for claim, losses, verdict in cases:
        found = answer(verdicts, claim)
        assert found.verdict is verdict
        is_clear = verdict is Verdict.YES
        assert (exact_permutation(losses, mf) < 0.05) is is_clear
        welch = stats.ttest_ind(losses, mf, equal_var=False)
        assert bool(welch.pvalue < 0.05) is is_clear
        [comparison] = found.comparisons
        assert comparison.mean == pytest.approx(abs(losses.mean() - mf.mean()))
        assert f"by {comparison.mean:.4f} [" in found.sentence


def test_the_gain_of_rope_along_the_context(verdicts: Verdicts, table: Any) -> None:
    x = np.log2(AXES["block_size"])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum() / len(AXES["n_embd"])
    slope, variances = 0.0, []
    for width in AXES["n_embd"]:
        for block, weight in zip(AXES["block_size"], weights, strict=True):
            rope, sinpe = table[block, width, "rope"], table[block, width, "sinpe"]
            slope += weight * (sinpe.mean() - rope.mean())
            variances += [weight**2 * each.var(ddof=1) / len(each) for each in (rope, sinpe)]
    found = answer(verdicts, "shrinks as the context grows")
    assert welch(slope, np.array(variances), 4) > 0.05
    assert found.verdict is Verdict.CANNOT_TELL
    assert f"shrinks by {-slope:.4f} with each doubling of block_size" in found.sentence


def test_the_best_cell(verdicts: Verdicts, table: Any) -> None:
    from scipy import stats

    means = {key: losses.mean() for key, losses in table.items()}
    best = min(means, key=means.__getitem__)
    assert verdicts.best is not None
    assert tuple(verdicts.best[axis] for axis in AXES) == best == (64, 64, "rope")
    kept = {tuple(each.cell[axis] for axis in AXES) for each in verdicts.candidates}
    assert best in kept
    assert verdicts.candidates[0].probability > 0.95
    for key, losses in table.items():
        p = stats.ttest_ind(table[best], losses, equal_var=False, alternative="less").pvalue
        assert key in kept or p < 0.05, "a cell that a test of it alone cannot tell from the best stays"
