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
    Losses,
    all_comparisons,
    best_cells,
    compare_cells,
    corrected,
    describe,
    final_losses,
    missing_notes,
)
from search.statistics.inference import ALPHA, holm, one_sided
from search.storage.database import Database
from search.study.claims import Claim, Scalar


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
        comparisons: Every pair of levels of every factor.
        answers: One per claim of the study, in their order.
        best: The cell with the lowest mean loss.
        tied: The cells not separable from it, itself included; best first. Empty with one seed.
        notes: What is missing or cannot be decided.
    """

    comparisons: tuple[Comparison, ...]
    answers: tuple[Answer, ...]
    best: Mapping[str, Any] | None
    tied: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


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
    pairs = [claim.cells for claim in claims if claim.cells]
    of_pairs = [compare_cells(everything, *pair) for pair in pairs]
    tested = all_comparisons(grid)
    # One correction for the number of all tests.
    judged = corrected([*tested, *(each for each in of_pairs if each is not None)])
    comparisons, of_cells = judged[: len(tested)], iter(judged[len(tested) :])
    answers = []
    for claim in claims:
        if claim.cells:
            found = compare_cells(everything, *claim.cells)
            answers.append(_cells_answer(claim, None if found is None else next(of_cells)))
        elif claim.order:
            answers.append(_order_answer(claim, claim.order, comparisons, grid))
        else:
            answers.append(_not_always_answer(claim, claim.not_always, comparisons, grid))
    best, tied = best_cells(grid)
    return Verdicts(tuple(comparisons), tuple(answers), best, tied, tuple(notes))


def in_words(claim: Claim) -> str:
    """A claim as text: its `text`, or a sentence made from its values."""
    if claim.text:
        return claim.text
    if claim.cells:
        return " is better than ".join(describe(cell) for cell in claim.cells)
    if claim.order:
        return f"{claim.factor}: {' is better than '.join(map(str, claim.order))}"
    return f"{claim.factor}: {' is not always better than '.join(map(str, claim.not_always))}"


def _cells_answer(claim: Claim, found: Comparison | None) -> Answer:
    if found is None:
        return Answer(in_words(claim), CANNOT_TELL, "One of the two cells has no final loss for every seed.", ())
    return Answer(in_words(claim), _agreement([(found, claim.cells[0])]), found.sentence, (found,))


def _order_answer(claim: Claim, order: Sequence[Scalar], comparisons: Sequence[Comparison], grid: Losses) -> Answer:
    assert claim.factor is not None, "checked by Claim"
    unknown = _unknown(claim.factor, order, grid)
    if unknown:
        return Answer(in_words(claim), CANNOT_TELL, unknown, ())
    steps = [(_between(comparisons, claim.factor, *pair), pair[0]) for pair in itertools.pairwise(order)]
    known = [(found, first) for found, first in steps if found is not None]
    verdict = _agreement(known) if len(known) == len(steps) else CANNOT_TELL
    sentence = " ".join(found.sentence for found, _ in known) or "No cell has both values complete for every seed."
    return Answer(in_words(claim), verdict, sentence, tuple(found for found, _ in known))


def _agreement(steps: Sequence[tuple[Comparison, Any]]) -> str:
    """The verdict on a claim from its comparisons, each with the value that the claim expects to be better."""
    if any(found.verdict == SUPPORTED and found.better != claimed for found, claimed in steps):
        return NOT_SUPPORTED
    return SUPPORTED if all(found.verdict == SUPPORTED for found, _ in steps) else CANNOT_TELL


def _not_always_answer(
    claim: Claim, order: Sequence[Scalar], comparisons: Sequence[Comparison], grid: Losses
) -> Answer:
    """Supported if in one pair of cells the value expected to be better is worse beyond chance."""
    assert claim.factor is not None, "checked by Claim"
    unknown = _unknown(claim.factor, order, grid)
    if unknown:
        return Answer(in_words(claim), CANNOT_TELL, unknown, ())
    pairs = list(itertools.combinations(order, 2))
    of_factor = tuple(each for pair in pairs if (each := _between(comparisons, claim.factor, *pair)) is not None)
    if len(grid.seeds) < 2:
        return Answer(in_words(claim), CANNOT_TELL, "One seed cannot separate chance from effect.", of_factor)
    tests = [
        (one_sided(grid.table[rows[first]] - grid.table[rows[second]]), first, second, rest)
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
        where = f"{claim.factor} {first} is worse than {second} in one of them"
        sentence = f"{len(counter)} of {len(tests)} pairs of cells contradict the order beyond chance; {where}."
        return Answer(in_words(claim), SUPPORTED, sentence, of_factor)
    always = bool(of_factor) and all(each.verdict == SUPPORTED and each.cells_agree == each.cells for each in of_factor)
    sentence = f"None of {len(tests)} pairs of cells contradicts the order beyond chance."
    return Answer(in_words(claim), NOT_SUPPORTED if always else CANNOT_TELL, sentence, of_factor)


def _unknown(factor: str, values: Sequence[Scalar], grid: Losses) -> str | None:
    """A message about a value of a claim that this study does not vary; None if it varies all of them."""
    levels = grid.factors.get(factor, [])
    missing = [value for value in values if value not in levels]
    return (
        f"{describe(missing[0])} is not a value of {factor} in this study, or none of its trials is complete."
        if missing
        else None
    )


def _between(comparisons: Sequence[Comparison], factor: str, one: Scalar, other: Scalar) -> Comparison | None:
    pairs = {(one, other), (other, one)}
    return next((each for each in comparisons if each.factor == factor and (each.better, each.worse) in pairs), None)
