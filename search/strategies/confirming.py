"""`--confirm N`: when a study has ended, fresh seeds for its best cell and the runner-up."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.objectives.corpus import Corpus
from search.objectives.language_model.bigram_baseline import bigram_baseline_loss
from search.statistics.ranking import ranked_rows
from search.storage.database import Database
from search.storage.dependent_planning import Results, final_results, plan_after
from search.storage.planning import StudyPlan
from search.storage.slots import cell_and_seed
from search.storage.values import canonical
from search.study.claims import Cell
from search.study.confirmation import (
    confirmation_name,
    confirmation_plan,
    with_choice,
    with_held_out,
)
from search.study.confirmed_choices import CONFIRMED, parse_choices
from search.study.formatting import describe_cell
from search.study.stored import StoredStudy, read_stored_study

log = logging.getLogger("search")


def plan_confirmation(database: Database, study: str, corpus: Corpus | None, seeds: int) -> str | None:
    """Plan the confirmation of a study in which every trial has ended; planning it again adds nothing.

    Args:
        corpus: The study's text.
        seeds: How many fresh seeds each cell gets.

    Returns:
        The name of the study with the confirming trials; None if the study has not ended, or has no ranked cell.

    Raises:
        DefinitionChanged, StorageError: Another study has the name of the confirmation.
    """
    text = baseline = None
    # Once more if a trial was put back, or seeds were added, between reading the results and locking the study.
    while (results := final_results(database, study)) is not None:
        stored = read_stored_study(database, study)
        ranked = [row for row in ranked_rows(database, [study]) if row.rank is not None]
        if stored is None or not ranked:
            return None
        if corpus is not None and text is None:
            text = with_held_out(corpus)
            baseline = bigram_baseline_loss(text)
        confirmed = _Confirmed(stored, [dict(row.cell) for row in ranked[:CONFIRMED]], text, baseline, seeds)
        if (before := confirmed.plan(database, results)) is not None:
            if before and canonical(before) != canonical(confirmed.cells[0]):
                log.warning(
                    "the best cell of %s was %s when it was confirmed, and is %s now; that is confirmed too",
                    study, describe_cell(before), describe_cell(confirmed.cells[0]),
                )  # fmt: skip
            return confirmation_name(study)
    return None


@dataclass(frozen=True)
class _Confirmed:
    """What is confirmed of a study.

    Attributes:
        study: The study, in which every trial has ended.
        cells: The winner, and the runner-up if there is one.
        corpus: The text with the held-out text; None if the objective takes none.
        baseline: The bigram baseline on that text.
        seeds: How many fresh seeds each cell gets.
    """

    study: StoredStudy
    cells: Sequence[Cell]
    corpus: Corpus | None
    baseline: float | None
    seeds: int

    def plan(self, database: Database, results: Results) -> Mapping[str, Any] | None:
        """Plan the trials.

        Args:
            results: Those that `cells` were chosen by.

        Returns:
            The winner of the choice before, empty if there was none; None if the results have changed.
        """
        used = [cell_and_seed(cell)[1] for cell, _, _ in results.trials]
        before: Mapping[str, Any] = {}

        def make(attrs: Mapping[str, Any]) -> StudyPlan:
            nonlocal before
            choices = parse_choices(attrs)
            before = choices[-1].cells[0] if choices else {}
            choices = with_choice(choices, self.cells, self.study.first_seed, used, self.seeds)
            return confirmation_plan(self.study, self.corpus, self.baseline, choices)

        is_planned = plan_after(database, results, confirmation_name(self.study.name), make)
        return before if is_planned else None
