"""What the page draws of single trials: learning curves, losses by position, generated text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search.reporting.charts import Line, over_seeds
from search.statistics.ranking import Row
from search.storage.database import Database
from search.storage.queries import TrialSummary
from search.storage.trial_histories import TrialHistory, trial_histories
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.trial_facts import PAGE_FACTS, trial_facts

BEST_LINES = 5  # lines in the chart of the best cells; more of them are hard to distinguish


@dataclass(frozen=True)
class GeneratedText:
    """Text that one trained model wrote."""

    cell: str
    seed: Any
    text: str


@dataclass(frozen=True)
class DrawnTrials:
    """The complete trials of the cells that are drawn.

    Attributes:
        trials: The curves of all trials would not fit into memory.
        labels: What the cells are called, by canonical cell.
        first_step: Losses before it are not drawn.
    """

    trials: Sequence[TrialHistory] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    first_step: int = 0

    @cached_property
    def _by_cell(self) -> Mapping[str, list[TrialHistory]]:
        found: dict[str, list[TrialHistory]] = {}
        for trial in self.trials:
            found.setdefault(canonical(without_seed(trial.cell)), []).append(trial)
        return found

    def _of(self, rows: Sequence[Row]) -> Iterator[tuple[str, list[TrialHistory]]]:
        for row in rows:
            if trials := self._by_cell.get(canonical(row.cell)):
                yield self.labels[canonical(row.cell)], trials

    def curves(self, rows: Sequence[Row]) -> list[Line]:
        """The learning curves of cells."""
        drawn = [(label, over_seeds([trial.curve for trial in trials])) for label, trials in self._of(rows)]
        kept = [(label, [point for point in points if point.x >= self.first_step]) for label, points in drawn]
        return [Line(label, points) for label, points in kept if points]

    def metric_curves(self, rows: Sequence[Row], name: str) -> list[Line]:
        """The curves of another metric of cells; none of one that was reported at one step."""
        lines = []
        for label, trials in self._of(rows):
            curves = [{at: each[name] for at, each in trial.metrics.items() if name in each} for trial in trials]
            points = over_seeds(curves)
            if len(points) > 1:
                lines.append(Line(label, points))
        return lines

    def by_position(self, rows: Sequence[Row]) -> list[Line]:
        """Validation loss by position in the window; position 1 is the first predicted character."""
        lines = []
        for label, trials in self._of(rows):
            found = [losses for trial in trials if (losses := trial_facts(trial.attrs).val_loss_by_position)]
            points = over_seeds([dict(enumerate(losses, start=1)) for losses in found])
            if points:
                lines.append(Line(label, points))
        return lines

    def generated_texts(self, rows: Sequence[Row]) -> list[GeneratedText]:
        """For each cell the text of the first seed that has one."""
        found = []
        for label, trials in self._of(rows):
            texts = ((trial.seed, trial_facts(trial.attrs).sample) for trial in trials)
            first = next(((seed, text) for seed, text in texts if text), None)
            if first is not None:
                found.append(GeneratedText(label, *first))
        return found


def read_drawn_trials(
    database: Database, trials: Sequence[TrialSummary], labels: Mapping[str, str], *, is_ours: bool
) -> DrawnTrials:
    """Read the complete trials of some cells.

    Args:
        trials: Of the study, and of its sibling.
        labels: What the cells are called, by canonical cell.
        is_ours: Whether our own objective has made them. It reports no further metrics, and its loss before training,
            at step 0, is not drawn.
    """
    complete = (trial for trial in trials if trial.state == "complete")
    chosen = [(trial.study, trial.number) for trial in complete if canonical(without_seed(trial.cell)) in labels]
    studies = list(dict.fromkeys(trial.study for trial in trials))
    histories = trial_histories(database, studies, PAGE_FACTS, with_metrics=not is_ours, chosen=chosen)
    return DrawnTrials(histories, labels, first_step=1 if is_ours else 0)
