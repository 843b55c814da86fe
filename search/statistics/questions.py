"""The open questions of a study, and how many further trials would answer each.

A question is open while its interval holds both a difference and none. More seeds narrow the interval: its half-width
shrinks with the square root of the variance, and the cheapest way to a smaller variance gives each cell seeds in
proportion to its weight and noise, and less where a trial takes longer (Neyman 1934, optimum allocation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.answers import Verdict
from search.statistics.best import rivals
from search.statistics.claim_answers import claimed_levels, in_words
from search.statistics.comparison import Comparison
from search.statistics.comparisons import Family
from search.statistics.inference import ALPHA, Floats
from search.statistics.level_pairs import add_levels
from search.statistics.losses import Losses
from search.statistics.posterior import Contrasts
from search.statistics.verdicts import ClaimQuestion
from search.storage.values import canonical
from search.study.claims import Claim

# With fewer seeds a cell, no question is said to be beyond reach.
MIN_SEEDS = 3
BEST = "which cell is the best"


@dataclass(frozen=True)
class Question:
    """A question that the results do not answer yet.

    Attributes:
        text: The claim as text, or "which cell is the best".
        weights: (K,) float64, the linear combination of cell means that it is about.
        shrink: The factor by which its interval must shrink, above 1; infinite if the difference is exactly 0.
        half_widths: Half of the interval, in standard errors.
        level: The probability with which the interval misses the truth.
    """

    text: str
    weights: Floats
    shrink: float
    half_widths: float
    level: float


@dataclass(frozen=True)
class Need:
    """What it would take to answer a question.

    Attributes:
        question: The question.
        trials: The number of further trials; None if no number up to the most seeds of a cell answers it.
        seconds: How long they train, by the times of the trials so far.
    """

    question: Question
    trials: int | None
    seconds: float


def open_questions(grid: Losses, everything: Losses, claims: Sequence[Claim], margin: float | None) -> list[Question]:
    """The open questions of a study.

    Args:
        grid: The losses of the study.
        everything: The losses of the study and its baselines.
        claims: The study's claims.
        margin: A difference below it does not matter.
    """
    family = Family(everything, margin)
    add_levels(family, grid)
    asked = [(claim, ClaimQuestion(claim, family)) for claim in claims]
    contrasts = family.contrasts()
    if contrasts is None:
        return []
    comparisons = family.compare(contrasts)
    found = []
    for claim, question in asked:
        if question.answer(comparisons, contrasts).verdict is not Verdict.CANNOT_TELL:
            continue
        text = in_words(claim)
        if question.trend_index is not None:
            found.append(_of_contrast(text, question.trend_index, family, contrasts, margin))
        for levels in [] if claim.along is not None else claimed_levels(claim):
            comparison, index = comparisons.get(levels.key), family.index_of(levels)
            if comparison is None or index is None or comparison.low is None:
                continue
            if claim.not_always and (against := _nearest_contradiction(comparison, levels.one)) is not None:
                found.append(_of_contrast(text, family.setting_index(levels, against), family, contrasts, None))
            else:
                found.append(_of_contrast(text, index, family, contrasts, margin))
    return [*(each for each in found if each.shrink > 1), *_best_questions(grid, everything, margin)]


def _of_contrast(text: str, index: int, family: Family, contrasts: Contrasts, margin: float | None) -> Question:
    half = float(contrasts.joint_high[index] - contrasts.joint_low[index]) / 2
    shrink = _shrink(float(contrasts.mean[index]), half, margin, family.losses.unit)
    error = max(float(contrasts.error[index]), 1e-300)
    return Question(text, family.weights(index), shrink, half / error, float(contrasts.joint_level[index]))


def _shrink(mean: float, half: float, margin: float | None, unit: float) -> float:
    """How much an interval must shrink to leave 0 outside, or to lie within the margin, whichever is less."""
    needed = max(abs(mean), 0.0 if margin is None else margin / unit - abs(mean))
    return half / needed if needed > 0 else math.inf


def _nearest_contradiction(comparison: Comparison, first: object) -> int | None:
    """Which compared setting is nearest to showing that the first level is worse there; None if none leans to it."""
    sign = 1 if canonical(comparison.better) == canonical(first) else -1
    scores = [
        -sign * each.mean / max((each.high - each.low) / 2, 1e-300)
        if each.mean is not None and each.low is not None and each.high is not None
        else -math.inf
        for each in comparison.compared
    ]
    return int(np.argmax(scores)) if scores and max(scores) > 0 else None


def _best_questions(grid: Losses, everything: Losses, margin: float | None) -> list[Question]:
    """For each cell that may be the best, whether it is worse than the leader."""
    posterior = grid.posterior
    if posterior is None or not grid.comparable.any():
        return []
    found = []
    leader, *others = rivals(posterior, grid.comparable)
    for each in others:
        behind, reach = each.behind * grid.unit, each.reach * grid.unit
        if behind > reach or (margin is not None and behind + reach < margin):
            continue
        weights = np.zeros(len(everything.cells))
        weights[everything.row_by_cell[canonical(grid.cells[leader.index])]] = -1.0
        weights[everything.row_by_cell[canonical(grid.cells[each.index])]] = 1.0
        shrink = _shrink(behind, reach, margin, 1.0)
        found.append(Question(BEST, weights, shrink, each.reach_in_errors, ALPHA / len(others)))
    return [each for each in found if each.shrink > 1]


def need(question: Question, losses: Losses, seconds: Floats, max_seeds: int) -> Need:
    """Estimate what it takes to answer a question.

    With more seeds the variance of an estimate falls, and so does what is unknown about that variance: with two seeds a
    cell the second counts more.

    Args:
        losses: Of the study and its baselines.
        seconds: (K,) float64, how long a trial of each cell trains; above 0.
        max_seeds: No cell gets more seeds.
    """
    assert losses.posterior is not None, "a question needs a noise model"
    noise, used = losses.posterior.noise, question.weights != 0
    n, share = noise.count[used], np.abs(question.weights[used]) * np.sqrt(noise.variance[used])
    per_second = share / np.sqrt(seconds[used])
    most = np.maximum(n, max_seeds)
    # The cells' variances together have about so many degrees of freedom, by the heaviness of the interval's tails.
    freedom = _freedom(question.half_widths, question.level)
    known = noise.df[used]

    def shrunk(seeds: Floats) -> float:
        """By what factor the interval shrinks if the cells have so many seeds."""
        grown = freedom * float((share**2 * (known + seeds - n) / known).sum() / (share**2).sum())
        variance = float((share**2 / seeds).sum() / (share**2 / n).sum())
        return question.half_widths / (_quantile(grown, question.level) * math.sqrt(variance))

    if not shrunk(most) > question.shrink:
        # Two seeds say so little about noise that this may be wrong; a third one tells.
        third = np.maximum(np.minimum(MIN_SEEDS, most) - n, 0.0)
        return Need(question, int(third.sum()) or None, float((third * seconds[used]).sum()) or math.inf)
    low, high = 0.0, float((most / np.maximum(per_second, 1e-300)).max())
    for _ in range(60):
        factor = (low + high) / 2
        low, high = (low, factor) if shrunk(np.clip(factor * per_second, n, most)) > question.shrink else (factor, high)
    more = np.ceil(np.clip(high * per_second, n, most) - n - 1e-9)
    return Need(question, int(more.sum()), float((more * seconds[used]).sum()))


def _quantile(freedom: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - level / 2))


def _freedom(half_widths: float, level: float) -> float:
    """The degrees of freedom with which Student's t misses with probability `level` beyond so many standard errors."""
    low, high = 0.05, 1e4
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _quantile(middle, level) > half_widths else (low, middle)
    return high


def next_cells(
    question: Question, losses: Losses, seconds: Floats, planned: Floats, max_seeds: int, number: int
) -> list[int]:
    """The cells that get the next seeds: each time the one that narrows the interval most for its time.

    Args:
        losses, seconds, max_seeds: As for `need`.
        planned: (K,) float64, the seeds that each cell has, those included that are still training.
        number: How many seeds to give.
    """
    assert losses.posterior is not None, "a question needs a noise model"
    variance, n = question.weights**2 * losses.posterior.noise.variance, np.maximum(planned, 1.0).copy()
    chosen = []
    for _ in range(number):
        gain = np.where((variance > 0) & (n < max_seeds), variance / (n * (n + 1)) / seconds, 0.0)
        cell = int(np.argmax(gain))
        if gain[cell] == 0:
            break
        chosen.append(cell)
        n[cell] += 1
    return chosen
