"""Verdicts: what the results of a study decide, the claims of its file among them."""

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
    """What the results say about one claim.

    Attributes:
        claim: In words.
        verdict: "supported", "not supported" (the results support the opposite), or "cannot tell".
        comparisons: What the verdict rests on.
    """

    claim: str
    verdict: str
    sentence: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Verdicts:
    """All that a study's results decide.

    Attributes:
        comparisons: Every pair of levels of every factor.
        answers: To the study's claims, in their order.
        best: The cell of the lowest mean loss.
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
        studies: Its name, and that of its sibling with the baselines if that counts too.
        claims: What the study claims.
    """
    grid = final_losses(database, studies[:1])
    everything = final_losses(database, studies) if len(studies) > 1 else grid
    return decide(grid, everything, claims, missing_notes(database, studies[:1], grid))


def decide(grid: Losses, everything: Losses, claims: Sequence[Claim], notes: Sequence[str] = ()) -> Verdicts:
    """As `judge`, from losses.

    Args:
        grid: Of the study.
        everything: Those of the baselines too.
    """
    pairs = [claim.cells for claim in claims if claim.cells]
    single = [compare_cells(everything, *pair) for pair in pairs]
    tested = all_comparisons(grid)
    # All that is tested is corrected together.
    judged = corrected([*tested, *(each for each in single if each is not None)])
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
    """A claim as a sentence: its own text, or one made of its values."""
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
    """All steps as claimed, one against it, or neither; each with the value that is claimed to be better."""
    if any(found.verdict == SUPPORTED and found.better != claimed for found, claimed in steps):
        return NOT_SUPPORTED
    return SUPPORTED if all(found.verdict == SUPPORTED for found, _ in steps) else CANNOT_TELL


def _not_always_answer(
    claim: Claim, order: Sequence[Scalar], comparisons: Sequence[Comparison], grid: Losses
) -> Answer:
    """Supported by one cell in which a value that should be better is worse beyond chance."""
    assert claim.factor is not None, "checked by Claim"
    unknown = _unknown(claim.factor, order, grid)
    if unknown:
        return Answer(in_words(claim), CANNOT_TELL, unknown, ())
    pairs = list(itertools.combinations(order, 2))
    its = tuple(each for pair in pairs if (each := _between(comparisons, claim.factor, *pair)) is not None)
    if len(grid.seeds) < 2:
        return Answer(in_words(claim), CANNOT_TELL, "One seed cannot separate chance from effect.", its)
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
        return Answer(in_words(claim), SUPPORTED, sentence, its)
    always = bool(its) and all(each.verdict == SUPPORTED and each.cells_agree == each.cells for each in its)
    sentence = f"None of {len(tests)} pairs of cells contradicts the order beyond chance."
    return Answer(in_words(claim), NOT_SUPPORTED if always else CANNOT_TELL, sentence, its)


def _unknown(factor: str, values: Sequence[Scalar], grid: Losses) -> str | None:
    """What of a claim this study does not vary; None when it varies all of it."""
    levels = grid.factors.get(factor, [])
    missing = [value for value in values if value not in levels]
    return (
        f"{describe(missing[0])} is no value of {factor} here, or none of its trials is complete." if missing else None
    )


def _between(comparisons: Sequence[Comparison], factor: str, one: Scalar, other: Scalar) -> Comparison | None:
    wanted = {(one, other), (other, one)}
    return next((each for each in comparisons if each.factor == factor and (each.better, each.worse) in wanted), None)
