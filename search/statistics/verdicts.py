"""Verdicts: what the results of a study decide, including the claims of its file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.statistics.comparisons import (
    CANNOT_TELL,
    NOT_SUPPORTED,
    SUPPORTED,
    Comparison,
    Levels,
    Tested,
    compare_all,
    compare_cells,
    corrected,
)
from search.statistics.inference import ALPHA, holm, one_sided
from search.statistics.losses import Losses, best_cells, final_losses, missing_notes
from search.storage.database import Database
from search.storage.texts import printable, shortened
from search.study.claims import Claim, Scalar
from search.study.formatting import axis_digits, describe_level

# Characters of a claim, and of the sentences that answer it.
MAX_CLAIM = 4_000


@dataclass(frozen=True)
class Answer:
    """The verdict on one claim.

    Attributes:
        claim: The claim as text.
        verdict: "supported", "not supported" (the results support the opposite), or "cannot tell".
        sentence: The reason.
        comparisons: The comparisons that the verdict is based on.
    """

    claim: str
    verdict: str
    sentence: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Verdicts:
    """All verdicts of a study.

    Attributes:
        comparisons: Pairs of levels of every factor: all pairs of a few levels, or the best of many levels and those
            whose losses are nearest to it. None with one seed.
        compared: The number of comparisons that were tested, those that are not listed included.
        answers: One per claim of the study, in their order.
        best: The best cell: that with the lowest mean loss.
        tied: The cells not separable from it, itself included; best first. Empty with one seed.
        notes: What is missing or cannot be decided.
    """

    comparisons: tuple[Comparison, ...]
    answers: tuple[Answer, ...]
    best: Mapping[str, Any] | None
    tied: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    compared: int = 0


def judge(database: Database, studies: Sequence[str], claims: Sequence[Claim]) -> Verdicts:
    """The verdicts of a study.

    Args:
        studies: Its name, and that of its sibling with the baselines if that is included.
        claims: The study's claims.
    """
    grid = final_losses(database, studies[:1])
    everything = final_losses(database, studies) if len(studies) > 1 else grid
    return decide(grid, everything, claims, missing_notes(database, studies[:1], grid))


def decide(grid: Losses, everything: Losses, claims: Sequence[Claim], notes: Sequence[str] = ()) -> Verdicts:
    """The verdicts from losses.

    Args:
        grid: The losses of the study.
        everything: The losses of the study and its baselines.
        claims: The study's claims.
        notes: Passed on to the verdicts.
    """
    tested = compare_all(grid, [levels for claim in claims for levels in _claimed(claim)])
    of_pairs = [found for claim in claims if claim.cells and (found := compare_cells(everything, *claim.cells))]
    # One correction for the number of all tests.
    judged = corrected([*tested.by_levels.values(), *of_pairs], everything)
    by_levels = dict(zip(tested.by_levels, judged, strict=False))
    of_cells = iter(judged[len(by_levels) :])
    answers = []
    for claim in claims:
        if claim.cells:
            found = compare_cells(everything, *claim.cells)
            answers.append(_cells_answer(claim, None if found is None else next(of_cells), grid.metric.short_label))
        elif claim.order:
            answers.append(_order_answer(claim, claim.order, by_levels, grid))
        else:
            answers.append(_not_always_answer(claim, claim.not_always, by_levels, grid))
    best, tied = best_cells(grid)
    shown = tuple(by_levels[levels] for levels in tested.shown)
    return Verdicts(shown, tuple(answers), best, tied, tuple(notes), _n_listable(tested, grid))


def _claimed(claim: Claim) -> list[Levels]:
    """The levels that a claim compares."""
    if claim.factor is None:
        return []
    pairs = itertools.pairwise(claim.order) if claim.order else itertools.combinations(claim.not_always, 2)
    return [(claim.factor, *pair) for pair in pairs]


def _n_listable(tested: Tested, grid: Losses) -> int:
    return len(tested.by_levels) if len(grid.seeds) > 1 else 0


def in_words(claim: Claim) -> str:
    """A claim as text: its `text`, or a sentence made from its values."""
    if claim.text:
        return printable(claim.text, MAX_CLAIM)
    if claim.cells:
        digits = axis_digits(claim.cells)
        return " is better than ".join(describe_level("cell", cell, digits) for cell in claim.cells)
    values, words = (claim.order, "better") if claim.order else (claim.not_always, "not always better")
    factor = claim.factor or ""
    digits = axis_digits({factor: value} for value in values)
    sentence = f" is {words} than ".join(describe_level(factor, value, digits) for value in values)
    return shortened(f"{factor}: {sentence}", MAX_CLAIM)


def _cells_answer(claim: Claim, found: Comparison | None, name: str) -> Answer:
    if found is None:
        return Answer(in_words(claim), CANNOT_TELL, f"One of the two cells has no final {name} for every seed.", ())
    return Answer(in_words(claim), _agreement([(found, claim.cells[0])]), found.sentence, (found,))


def _order_answer(
    claim: Claim, order: Sequence[Scalar], comparisons: Mapping[Levels, Comparison], grid: Losses
) -> Answer:
    assert claim.factor is not None, "checked by Claim"
    unknown = _unknown(claim.factor, order, grid)
    if unknown:
        return Answer(in_words(claim), CANNOT_TELL, unknown, ())
    steps = [(_between(comparisons, claim.factor, *pair), pair[0]) for pair in itertools.pairwise(order)]
    known = [(found, first) for found, first in steps if found is not None]
    verdict = _agreement(known) if len(known) == len(steps) else CANNOT_TELL
    sentence = " ".join(found.sentence for found, _ in known) or "No cell has both values complete for every seed."
    sentence = shortened(sentence, MAX_CLAIM)
    return Answer(in_words(claim), verdict, sentence, tuple(found for found, _ in known))


def _agreement(steps: Sequence[tuple[Comparison, Any]]) -> str:
    """The verdict on a claim from its comparisons, each with the value that the claim expects to be better."""
    if any(found.verdict == SUPPORTED and found.better != claimed for found, claimed in steps):
        return NOT_SUPPORTED
    return SUPPORTED if all(found.verdict == SUPPORTED for found, _ in steps) else CANNOT_TELL


def _not_always_answer(
    claim: Claim, order: Sequence[Scalar], comparisons: Mapping[Levels, Comparison], grid: Losses
) -> Answer:
    """Supported if in one pair of cells the value expected to be better is worse beyond chance."""
    assert claim.factor is not None, "checked by Claim"
    unknown = _unknown(claim.factor, order, grid)
    if unknown:
        return Answer(in_words(claim), CANNOT_TELL, unknown, ())
    pairs = [(one, other) for _, one, other in _claimed(claim)]
    of_factor = tuple(each for pair in pairs if (each := _between(comparisons, claim.factor, *pair)) is not None)
    if len(grid.seeds) < 2:
        return Answer(in_words(claim), CANNOT_TELL, "One seed cannot separate chance from effect.", of_factor)
    tests = [
        (one_sided(grid.scaled[rows[first]] - grid.scaled[rows[second]]), first, second, rest)
        for rest, rows in grid.rows_by_rest.get(claim.factor, {}).items()
        for first, second in pairs
        if first in rows and second in rows
    ]
    counter = [
        (first, second, rest)
        for p, (_, first, second, rest) in zip(holm([test[0] for test in tests]), tests, strict=True)
        if p <= ALPHA
    ]
    if counter:
        first, second, _ = counter[0]
        better, worse = grid.describe(claim.factor, second), grid.describe(claim.factor, first)
        where = f"{claim.factor} {worse} is worse than {better} in one of them"
        sentence = f"{len(counter)} of {len(tests)} pairs of cells contradict the order beyond chance; {where}."
        return Answer(in_words(claim), SUPPORTED, sentence, of_factor)
    always = bool(of_factor) and all(each.verdict == SUPPORTED and each.cells_agree == each.cells for each in of_factor)
    sentence = f"None of {len(tests)} pairs of cells contradicts the order beyond chance."
    return Answer(in_words(claim), NOT_SUPPORTED if always else CANNOT_TELL, sentence, of_factor)


def _unknown(factor: str, values: Sequence[Scalar], grid: Losses) -> str | None:
    """A message about a value of a claim that this study does not vary; None if it varies all of them."""
    levels = set(grid.factors.get(factor, []))
    missing = next((value for value in values if value not in levels), None)
    if missing is None:
        return None
    return (
        f"{grid.describe(factor, missing)} is not a value of {factor} in this study, or none of its trials is complete."
    )


def _between(comparisons: Mapping[Levels, Comparison], factor: str, one: Scalar, other: Scalar) -> Comparison | None:
    found = comparisons.get((factor, one, other))
    return comparisons.get((factor, other, one)) if found is None else found
