"""Charts of a search: the Pareto front, the best value so far, and the value against each axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from search.reporting.charts import Dot, scatter_chart
from search.reporting.report_data import ReportData
from search.reporting.search_dots import KINDS, Kind, best_so_far, objective_pairs
from search.statistics.ranking import Row
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.formatting import count_text

# More axes than these are left out.
MOST_AXES = 8
MIN_DOTS = 3
# The classes of the kinds of dots in a legend.
_MARKS: Mapping[Kind, str] = {"front": "dot c1", "other": "dot c0", "infeasible": "ring c0"}


@dataclass(frozen=True)
class SearchChart:
    """A chart.

    Attributes:
        panels: Its images, each with a heading of its own; "" for a single one.
        legend: The class of each kind of dot, and what it is.
        note: A sentence below it.
    """

    title: str
    panels: Sequence[tuple[str, Markup]]
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""


def search_charts(report_data: ReportData) -> list[SearchChart]:
    """The charts of a study with several objectives or with a sampler; none for others."""
    charts = [_front(report_data)] if len(report_data.stored.definition.metrics) > 1 else []
    if report_data.stored.definition.sampler is not None or report_data.stored.is_made_by_optuna:
        charts += [_so_far(report_data), *_against_axes(report_data)]
    return [chart for chart in charts if chart is not None]


def _front(report_data: ReportData) -> SearchChart | None:
    """A panel for each pair of objectives."""
    metrics = report_data.stored.definition.metrics
    pairs, left_out = objective_pairs(report_data.rows, metrics)
    if not pairs:
        return None
    single = len(pairs) == 1
    title = f"Pareto front: {pairs[0].title}" if single else "Pareto front, by pairs of objectives"
    panels = []
    for pair in pairs:
        dots = [
            Dot(dot.x, dot.y, report_data.label(dot.row.cell), dot.kind == "front", dot.kind == "infeasible")
            for dot in pair.dots
        ]
        panels.append(("" if single else pair.title, scatter_chart(dots, pair.title, pair.x.name, pair.y.name)))
    note = "; ".join(f"{each.name}: {each.better} is better" for each in metrics) + "."
    if not single:
        note += " The front is that of all objectives together."
    if left_out:
        note += f" {count_text(left_out, 'further pair')} {'is' if left_out == 1 else 'are'} left out."
    kinds = {dot.kind for pair in pairs for dot in pair.dots}
    return SearchChart(title, panels, [(_MARKS[kind], KINDS[kind]) for kind in KINDS if kind in kinds], note)


def _so_far(report_data: ReportData) -> SearchChart | None:
    """The values of complete trials in the order of their ends, and the best feasible one until then."""
    feasible = {canonical(row.cell): row.is_feasible for row in report_data.rows}
    ended = [
        (trial.ended, trial.value, without_seed(trial.cell))
        for trial in report_data.trials
        if trial.study == report_data.name
        and trial.ended is not None
        and trial.value is not None
        and math.isfinite(trial.value)
    ]
    ended.sort(key=lambda each: each[0])
    if len(ended) < MIN_DOTS:
        return None
    trials, best = best_so_far(
        ((value, cell, feasible.get(canonical(cell), True)) for _, value, cell in ended), report_data.metric
    )
    dots = [
        Dot(trial.at, trial.value, report_data.label(trial.cell), is_hollow=not trial.is_feasible) for trial in trials
    ]
    line = [(float(at), value) for at, value in [*best, *((len(trials), best[-1][1]) for _ in best[-1:])]]
    title, below = "The best so far", "complete trials, in the order of their ends"
    legend = []
    if any(not trial.is_feasible for trial in trials):
        legend = [(_MARKS["other"], "feasible trials"), (_MARKS["infeasible"], KINDS["infeasible"])]
    return SearchChart(title, [("", scatter_chart(dots, title, below, report_data.metric_title, line=line))], legend)


def _against_axes(report_data: ReportData) -> list[SearchChart]:
    definition = report_data.stored.definition
    rows = [row for row in report_data.ranked if _number(row.val_loss)]
    if len(rows) < MIN_DOTS:
        return []
    names = {name: None for row in rows for name in row.cell}
    charts = []
    for name in names:
        of_axis = [row for row in rows if name in row.cell]
        values = [row.cell[name] for row in of_axis]
        if len({str(value) for value in values}) < 2:
            continue
        axis = definition.axes.get(name)
        is_log = axis.log if axis is not None else _spans_decades(values)
        title = f"{report_data.metric.label} against {name}"
        dots, x_text = _dots(report_data, of_axis, name, is_log)
        image = scatter_chart(dots, title, name, report_data.metric_title, x_is_log=is_log, x_names=x_text)
        charts.append(SearchChart(title, [("", image)]))
    return charts[:MOST_AXES]


def _dots(
    report_data: ReportData, rows: Sequence[Row], name: str, is_log: bool
) -> tuple[list[Dot], Mapping[float, str] | None]:
    """The dots, and the names of the places of an axis that has no numbers."""
    values = [row.cell[name] for row in rows]
    names, places = None, {}
    if not all(map(_number, values)):
        order = list(dict.fromkeys(report_data.value(name, value) for value in values))
        names = {float(at): text for at, text in enumerate(order)}
        places = {text: float(at) for at, text in enumerate(order)}
    return [
        Dot(
            float(row.cell[name]) if names is None else places[report_data.value(name, row.cell[name])],
            row.val_loss or 0.0,
            report_data.label(row.cell),
            is_marked=row.rank == 1,
        )
        for row in rows
    ], names


def _spans_decades(values: Sequence[Any]) -> bool:
    """Whether numbers are positive and the largest is at least 1000 times the smallest."""
    return all(_number(value) and value > 0 for value in values) and max(values) >= 1000 * min(values)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
