"""What is open in a study with `seeds = "auto"`, and where the next seeds go.

The open question that the fewest seconds of training answer gets some seeds, for the cells that narrow its interval
most. A question that would need more trials than the budget leaves gets none, and so does one of cells whose planned
trials still wait: those of baselines can wait for another run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.statistics.inference import Floats, median
from search.statistics.losses import Losses
from search.statistics.questions import BEST, Need, need, next_cells, open_questions
from search.storage.values import canonical
from search.study.claims import Claim
from search.study.search_space import AutoSeedsSettings
from search.study.stored import StoredStudy

# Half of what a question needs is planned at once, but not fewer and not more trials than these.
LEAST, MOST = 4, 32


@dataclass(frozen=True)
class Rules:
    """What decides about further seeds.

    Attributes:
        claims: The study's claims.
        margin: A difference below it does not matter; None for none.
        settings: The most seeds of a cell, and the budget.
        cells: The number of cells of the grid.
    """

    claims: Sequence[Claim]
    margin: float | None
    settings: AutoSeedsSettings
    cells: int

    @property
    def budget(self) -> int:
        """The most trials of the study, its baselines not counted."""
        return self.settings.budget_of(self.cells)


@dataclass(frozen=True)
class OpenQuestion:
    """A claim, or the question for the best cell, that the results do not answer yet.

    Attributes:
        text: The claim as text, or "which cell is the best".
        parts: What each open step of the claim needs, or each cell that may be the best.
    """

    text: str
    parts: Sequence[Need]

    @property
    def trials(self) -> int | None:
        """The number of further trials that answer it; None if no number does.

        A claim needs all of its steps. Cells that may be the best are told from the leader one by one.
        """
        counts = [part.trials for part in self.parts if part.trials is not None]
        if not counts or (self.text != BEST and len(counts) < len(self.parts)):
            return None
        return sum(counts)

    @property
    def seconds(self) -> float:
        """How long they train."""
        return sum(part.seconds for part in self.parts if self.text != BEST or part.trials is not None)

    def as_dict(self) -> dict[str, Any]:
        """The question for JSON."""
        return {"text": self.text, "trials": self.trials}


@dataclass(frozen=True)
class Outlook:
    """What is open, and what to do about it.

    Attributes:
        needs: The open questions, the cheapest first.
        left: The number of trials that the budget leaves.
        next: The cells that get a further seed, one entry for each seed.
        question: What they answer; "" if there are none.
    """

    needs: Sequence[OpenQuestion]
    left: int
    next: Sequence[Mapping[str, Any]]
    question: str = ""

    @property
    def decidable(self) -> list[OpenQuestion]:
        """The questions that the budget can answer."""
        return [each for each in self.needs if each.trials is not None and each.trials <= self.left]


def outlook(grid: Losses, everything: Losses, rules: Rules, seconds_of: Mapping[str, float]) -> Outlook:
    """Decide which cells get further seeds.

    Args:
        grid: The losses of the study.
        everything: The losses of the study and its baselines.
        seconds_of: How long a trial trains, by canonical cell.
    """
    left = max(0, rules.budget - int(grid.count.sum()) - sum(sum(each.values()) for each in grid.others))
    seconds, most = _seconds(seconds_of, everything), rules.settings.max_seeds
    by_text: dict[str, list[Need]] = {}
    for question in open_questions(grid, everything, rules.claims, rules.margin):
        by_text.setdefault(question.text, []).append(need(question, everything, seconds, most))
    needs = sorted((OpenQuestion(text, parts) for text, parts in by_text.items()), key=lambda each: each.seconds)
    found = Outlook(needs, left, ())
    waits = everything.has_state("waiting")
    for decidable in found.decidable:
        first = min(decidable.parts, key=lambda part: part.seconds)
        if not waits[first.question.weights != 0].any():
            break
    else:
        return found
    assert first.trials is not None, "it is decidable"
    number = min(left, max(LEAST, min(MOST, math.ceil(first.trials / 2))))
    planned = np.array([everything.count[row] + sum(each.values()) for row, each in enumerate(everything.others)])
    chosen = next_cells(first.question, everything, seconds, planned.astype(np.float64), most, number)
    return Outlook(found.needs, left, [everything.cells[row] for row in chosen], decidable.text)


def _seconds(known: Mapping[str, float], losses: Losses) -> Floats:
    """The seconds of a trial of each cell, (K,) float64; those of a usual one where they are not known."""
    usual = median(list(known.values())) if known else 1.0
    # A trial of no cost still costs its place in the queue.
    return np.array([max(known.get(canonical(cell), usual), 0.01 * usual, 1e-3) for cell in losses.cells])


def rules_of(study: StoredStudy) -> Rules | None:
    """What decides about further seeds of a study; None if its number of seeds is fixed."""
    settings, definition = study.settings.auto_seeds, study.definition
    if settings is None or not definition.grid:
        return None
    return Rules(study.claims, study.equivalence_margin, settings, len(definition.cells))
