"""Two studies compared: the cells that both have, by one noise model over the trials of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from search.errors import UsageError
from search.statistics.answers import Finding, Verdict, finding
from search.statistics.compared_cells import CellComparison, StudyView
from search.statistics.compared_studies import ComparedStudy, cell_of, combined_axes
from search.statistics.comparison import (
    Comparison,
    Levels,
)
from search.statistics.comparisons import Family
from search.statistics.losses import Losses
from search.statistics.sentences import finding_sentence, only_where
from search.study.formatting import describe_cell
from search.study.metrics import Metric


@dataclass(frozen=True)
class StudyComparison:
    """Two studies compared.

    Attributes:
        first, second: What the studies are called.
        metric: What their trials are ranked by.
        cells: The cells that both have, the best value first.
        only: The number of cells that only the first has, and only the second.
        difference: The mean of the second study minus that of the first, over the compared cells; None without any.
        low, high: Its 95 % interval, which holds together with those of the cells; None with one seed a cell.
        verdict: Which study is better, and where.
        sentence: Why.
        equal_trials: Pairs of complete trials with the same cell and seed: those with the same value, and all; none if
            a study takes no seeds.
        comparison: The same as the comparisons of a study's levels, for charts.
        digits: The digits that tell the values of each axis apart.
    """

    first: str
    second: str
    metric: Metric
    cells: tuple[CellComparison, ...]
    only: tuple[int, int]
    difference: float | None
    low: float | None
    high: float | None
    verdict: str
    sentence: str
    equal_trials: tuple[int, int]
    comparison: Comparison
    digits: Mapping[str, int]

    @property
    def compared(self) -> list[CellComparison]:
        """The cells of which both studies have values that can be compared."""
        return [each for each in self.cells if each.difference is not None]


def compare_studies(first: ComparedStudy, second: ComparedStudy) -> StudyComparison:
    """Compare two studies.

    Raises:
        UsageError: They are ranked by different metrics, or have no cell in common.
    """
    metric = first.stored.definition.metric
    _check_metrics(first, second)
    axis, dropped = combined_axes(first, second)
    losses = _losses(first, second, axis, dropped, metric)
    family = Family(losses, _margin(first, second))
    levels = Levels(axis, first.label, second.label)
    family.add(levels, with_settings=True)
    comparison = family.compare(family.contrasts()).get(levels.key)
    if comparison is None:
        raise UsageError(_no_common_cell(first, second))
    view = StudyView(first.label, second.label, axis, losses, comparison)
    cells = sorted(map(view.cell, comparison.settings), key=lambda each: view.order(each))
    found = _oriented_finding(comparison)
    difference, low, high = view.second_minus_first(
        comparison.mean if comparison.compared else None, comparison.low, comparison.high
    )
    return StudyComparison(
        first=first.label,
        second=second.label,
        metric=metric,
        cells=tuple(cells),
        only=view.only(),
        difference=difference,
        low=low,
        high=high,
        verdict=_words(found, losses),
        sentence=_sentence(found, losses, axis),
        equal_trials=view.equal_trials() if first.takes_seeds and second.takes_seeds else (0, 0),
        comparison=comparison,
        digits=losses.digits,
    )


def _check_metrics(first: ComparedStudy, second: ComparedStudy) -> None:
    metrics = [each.stored.definition.metric for each in (first, second)]
    if metrics[0] != metrics[1]:
        said = [f"{each.name} ({each.better} is better)" for each in metrics]
        raise UsageError(
            f"{first.label} is ranked by {said[0]}, {second.label} by {said[1]}, so their values cannot be compared; "
            "choose two studies of one metric, or report each alone"
        )


def _margin(first: ComparedStudy, second: ComparedStudy) -> float | None:
    """A difference below it does not matter: the smaller margin of the two."""
    margins = [each.stored.equivalence_margin for each in (first, second)]
    return min((each for each in margins if each is not None), default=None)


def _losses(first: ComparedStudy, second: ComparedStudy, axis: str, dropped: Iterable[str], metric: Metric) -> Losses:
    """The trials of both studies, whose cells tell the studies apart by `axis`."""
    observations, others = [], []
    for study in (first, second):
        for trial in study.trials:
            cell = {axis: study.label, **cell_of(trial, dropped)}
            if trial.state == "complete" and trial.val_loss is not None:
                observations.append((cell, trial.seed, trial.val_loss))
            elif len(cell) > 1 or trial.state not in ("waiting", "running"):  # a slot without a cell yet
                others.append((cell, trial.state))
    return Losses.of(observations, metric, others)


def _no_common_cell(first: ComparedStudy, second: ComparedStudy) -> str:
    example = [next((describe_cell(cell_of(trial, ())) for trial in each.trials), "none") for each in (first, second)]
    return (
        f"{first.label} and {second.label} have no cell in common: the first has for example {example[0]}, the second "
        f"{example[1]}; choose studies that share cells, or add some to one of them with run --set or --enqueue"
    )


def _oriented_finding(comparison: Comparison) -> Finding:
    """The verdict, about the study that it is in favour of."""
    found = finding(comparison.better, comparison)
    return finding(comparison.worse, comparison) if found.verdict is Verdict.OPPOSITE else found


def _words(found: Finding, losses: Losses) -> str:
    if found.verdict is Verdict.ONLY_WHERE:
        return f"{found.first} is better only where {only_where(found, losses)}"
    if found.verdict is Verdict.YES:
        return f"{found.first} is better" + (f", {found.detail}" if found.detail else "")
    return f"{found.verdict} ({found.detail})" if found.detail else str(found.verdict)


def _sentence(found: Finding, losses: Losses, axis: str) -> str:
    sentence = finding_sentence(found, losses)
    return sentence.replace(axis, "Study", 1) if sentence.startswith(f"{axis} ") else sentence
