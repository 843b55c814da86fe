"""Charts of a search: the Pareto front, the best value so far, and the value against each axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from search.reporting.charts import Dot, scatter_chart
from search.reporting.report_data import ReportData
from search.statistics.ranking import Row
from search.storage.values import canonical
from search.study.cells import without_seed

# More axes than these are left out.
MOST_AXES = 8
MIN_DOTS = 3


@dataclass(frozen=True)
class SearchChart:
    """A chart, its title, and a note below it."""

    title: str
    image: Markup
    note: str = ""


def search_charts(report_data: ReportData) -> list[SearchChart]:
    """The charts of a study with several objectives or with a sampler; none for others."""
    charts = [_front(report_data)] if len(report_data.stored.definition.metrics) > 1 else []
    if report_data.stored.definition.sampler is not None or report_data.stored.is_made_by_optuna:
        charts += [_so_far(report_data), *_against_axes(report_data)]
    return [chart for chart in charts if chart is not None]


def _front(report_data: ReportData) -> SearchChart | None:
    """The first two objectives; further ones are in the table."""
    one, other = report_data.stored.definition.metrics[:2]
    rows = [row for row in report_data.rows if row.state == "complete" and _number(row.further.get(other.name))]
    dots = [
        Dot(row.val_loss, row.further[other.name], report_data.label(row.cell), is_marked=row.on_front is True)
        for row in rows
        if row.val_loss is not None
    ]
    if not dots:
        return None
    title = f"Pareto front: {other.name} against {one.name}"
    note = f"{one.name}: {one.better} is better; {other.name}: {other.better} is better. Large dots are on the front."
    if len(report_data.stored.definition.metrics) > 2:
        note += " Of all objectives: the table has the others."
    return SearchChart(title, scatter_chart(dots, title, one.name, other.name), note)


def _so_far(report_data: ReportData) -> SearchChart | None:
    """The values of complete trials in the order of their ends, and the best feasible one until then."""
    metric = report_data.metric
    feasible = {canonical(row.cell): row.is_feasible for row in report_data.rows}
    ended = [
        (trial.ended, trial.value, without_seed(trial.cell))
        for trial in report_data.trials
        if trial.study == report_data.name and trial.ended is not None and _number(trial.value)
    ]
    ended.sort(key=lambda each: each[0])
    if len(ended) < MIN_DOTS:
        return None
    dots, best, so_far = [], [], None
    for at, (_, value, cell) in enumerate(ended, start=1):
        assert value is not None, "a number"
        dots.append(Dot(at, value, report_data.label(cell)))
        if feasible.get(canonical(cell), True):
            so_far = value if so_far is None or metric.loss(value) < metric.loss(so_far) else so_far
        if so_far is not None:
            best.append((float(at), so_far))
    title, below = "The best so far", "complete trials, in the order of their ends"
    return SearchChart(title, scatter_chart(dots, title, below, report_data.metric_title, line=best))


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
        charts.append(SearchChart(title, image))
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
