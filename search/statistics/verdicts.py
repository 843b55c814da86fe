"""Verdicts: what the results of a study decide, including the claims of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from search.statistics.answers import Finding, finding
from search.statistics.best import Chance, best_set, chances
from search.statistics.claim_answers import (
    Answer,
    claimed_levels,
    listed_answer,
    made_answer,
    not_always_answer,
    steps_answer,
)
from search.statistics.comparison import Comparison, Levels
from search.statistics.comparisons import Family
from search.statistics.level_pairs import add_levels
from search.statistics.losses import Losses
from search.statistics.modes import Modes, find_modes
from search.statistics.posterior import Contrasts
from search.statistics.trends import Trend, add_trend, trend_answer
from search.storage.values import canonical
from search.study.claims import Claim


@dataclass(frozen=True)
class Candidate:
    """A cell that may be the best.

    Attributes:
        cell: Its values.
        probability: That its true mean is the best of all cells.
        regret: By how much its true mean is expected to be worse than the best one.
    """

    cell: Mapping[str, Any]
    probability: float
    regret: float


@dataclass(frozen=True)
class Verdicts:
    """All verdicts of a study.

    Attributes:
        comparisons: "This level is better than that one" for pairs of levels of every factor: all pairs of a few
            levels, or the best of many levels and those whose losses are nearest to it. Each answer has one comparison.
            None with one seed.
        answers: One per claim of the study, in their order.
        best: The best cell: that with the lowest mean loss.
        candidates: The cells that may be the best, best first: the truly best one is among them with 95 %. Empty with
            one seed.
        modes: Cells whose seeds end in two places.
        notes: What is missing or cannot be decided.
        compared: The number of comparisons that were made, those that are not listed included.
        correlation: Of cells with the same seed; None with one seed.
    """

    comparisons: tuple[Answer, ...]
    answers: tuple[Answer, ...]
    best: Mapping[str, Any] | None
    candidates: tuple[Candidate, ...]
    modes: tuple[Modes, ...]
    notes: tuple[str, ...]
    compared: int = 0
    correlation: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The verdicts for JSON."""
        facts = asdict(self)
        for name in ("comparisons", "answers"):
            for stored, answer in zip(facts[name], getattr(self, name), strict=True):
                stored |= {"verdict": str(answer.verdict), "words": answer.words}
        return facts


def decide(
    grid: Losses,
    everything: Losses,
    claims: Sequence[Claim],
    notes: Sequence[str] = (),
    *,
    ranked: Sequence[str] | None = None,
    margin: float | None = None,
) -> Verdicts:
    """The verdicts from losses.

    Args:
        grid: The losses of the study.
        everything: The losses of the study and its baselines.
        claims: The study's claims.
        notes: Passed on to the verdicts.
        ranked: The canonical cells of the ranked table, best first; None for all whose trials are complete.
        margin: A difference below it does not matter.
    """
    family = Family(everything, margin)
    # With one seed a cell no comparison can be listed.
    shown = [] if everything.posterior is None else add_levels(family, grid)
    asked = [ClaimQuestion(claim, family) for claim in claims]
    contrasts = family.contrasts()
    comparisons = family.compare(contrasts)
    posterior = everything.posterior
    listed = [comparisons[levels.key] for levels in shown if levels.key in comparisons]
    best, candidates = _best(grid, ranked)
    return Verdicts(
        comparisons=tuple(listed_answer(each, everything) for each in listed if each.compared),
        answers=tuple(question.answer(comparisons, contrasts) for question in asked),
        best=best,
        candidates=candidates,
        modes=tuple(find_modes(everything)),
        notes=tuple(notes),
        compared=len(comparisons) if posterior is not None else 0,
        correlation=None if posterior is None else posterior.noise.correlation,
    )


def _best(losses: Losses, ranked: Sequence[str] | None) -> tuple[Mapping[str, Any] | None, tuple[Candidate, ...]]:
    """The best cell, the same as that of the ranked table, and those that may be the best."""
    places = {canonical(cell): row for row, cell in enumerate(losses.cells)}
    keys = sorted(places, key=lambda key: losses.mean[places[key]]) if ranked is None else ranked
    rows = [row for row in (places[key] for key in keys if key in places) if losses.finished[row]]
    if not rows:
        return None, ()
    best, posterior = losses.cells[rows[0]], losses.posterior
    if posterior is None:
        return best, ()
    allowed = np.isin(np.arange(len(losses.cells)), rows)
    found: dict[int, Chance] = {each.index: each for each in chances(posterior, allowed)}
    # Of cells with equal means the table's first is the first here too.
    kept = [found[index] for index in sorted(best_set(posterior, allowed), key=rows.index)]
    candidates = [Candidate(losses.cells[each.index], each.probability, losses.in_values(each.regret)) for each in kept]
    return best, tuple(candidates)


class ClaimQuestion:
    """A claim, from what it compares to its answer."""

    def __init__(self, claim: Claim, family: Family) -> None:
        self._claim, self._family = claim, family
        self._trend: Trend | None = None
        if claim.along is not None:
            self._trend = add_trend(family, claim)
        else:
            for levels in claimed_levels(claim):
                family.add(levels, with_settings=True)

    @property
    def trend_index(self) -> int | None:
        """Where the contrasts have the slope that it is about; None unless it is about one."""
        return None if self._trend is None else self._trend.index

    def answer(self, comparisons: Mapping[str, Comparison], contrasts: Contrasts | None) -> Answer:
        """The answer from the estimates."""
        if self._trend is not None:
            return self._of_trend(self._trend, contrasts)
        losses = self._family.losses
        findings = [self._finding(levels, comparisons) for levels in claimed_levels(self._claim)]
        if self._claim.not_always:
            return not_always_answer(self._claim, findings, losses)
        return steps_answer(self._claim, findings, losses)

    def _finding(self, levels: Levels, comparisons: Mapping[str, Comparison]) -> Finding:
        losses = self._family.losses
        return finding(levels.one, comparisons.get(levels.key), _missing(levels, losses))

    def _of_trend(self, trend: Trend, contrasts: Contrasts | None) -> Answer:
        low = high = None
        slope, losses = 0.0, self._family.losses
        if trend.index is not None and contrasts is not None:
            low, high = (losses.in_values(end[trend.index]) for end in (contrasts.joint_low, contrasts.joint_high))
            slope = losses.in_values(contrasts.mean[trend.index])
        verdict, detail, sentence = trend_answer(trend, losses, low, high, slope, self._family.margin)
        return made_answer(self._claim, verdict, detail, sentence, ())


def _missing(levels: Levels, losses: Losses) -> str:
    """Why a study has no pair of cells to compare."""
    if levels.factor == "cell":
        return "one of the two cells is not in this study"
    known = set(losses.factors.get(levels.factor, []))
    missing = next((value for value in (levels.one, levels.other) if value not in known), None)
    if missing is None:
        return "no two cells differ in these values alone"
    return f"{losses.describe(levels.factor, missing)} is not a value of {levels.factor} in this study"
