"""Charts of the axes of a search: which matter, the value against each, and all together."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from search.reporting.chart_range import robust_range
from search.reporting.heatmaps import ramp_colour
from search.reporting.importance import MIN_CELLS, MOST_CELLS, importance_chart, importances
from search.reporting.parallel_coordinates import AxisPlaces, axis_places, parallel_coordinates, thinned
from search.reporting.report_data import ReportData
from search.reporting.scatter import Dot, edge_note, scatter_chart, spans_decades
from search.reporting.search_dots import MIN_DOTS, MOST_DOTS, SearchChart
from search.statistics.inference import unit
from search.statistics.ranking import Row

# More axes than these are left out.
MOST_AXES = 8


def axis_charts(report_data: ReportData) -> list[SearchChart]:
    """Which axes matter, the value against each, and all together."""
    rows = [row for row in report_data.ranked if _number(row.val_loss)]
    names = {name: None for row in rows for name in row.cell}
    varied = [name for name in names if len({str(row.cell[name]) for row in rows if name in row.cell}) > 1]
    if len(rows) < MIN_DOTS or not varied:
        return []
    is_single = len(report_data.stored.definition.metrics) == 1
    found = importances(report_data.distributions, rows) if is_single else {}
    order = [*(name for name in found if name in varied), *(name for name in varied if name not in found)]
    charts = [_importance(report_data, found, len(rows))] if is_single and len(varied) > 1 else []
    charts += [_against(report_data, rows, name) for name in order[:MOST_AXES]]
    if len(varied) > 1:
        charts += [_two_axes(report_data, rows, order[:2]), _parallel(report_data, rows, order)]
    return [chart for chart in charts if chart is not None]


def _importance(report_data: ReportData, found: Mapping[str, float], n_cells: int) -> SearchChart | None:
    if not found:
        return None
    title = "Which axes matter"
    note = (
        f"Optuna's importances (PED-ANOVA): the share of each axis in what tells the best tenth of {n_cells} cells "
        "from the others. They are of single axes; charts of two axes show how they work together. Computed with "
        f"{MIN_CELLS} to {MOST_CELLS} cells."
    )
    return SearchChart(title, [("", importance_chart(found, title))], (), note)


def _is_log(report_data: ReportData, name: str, values: Sequence[Any]) -> bool:
    distribution = report_data.distributions.get(name)
    if isinstance(distribution, (FloatDistribution, IntDistribution)):
        return distribution.log
    return spans_decades(values)


def _against(report_data: ReportData, rows: Sequence[Row], name: str) -> SearchChart:
    of_axis = thinned([row for row in rows if name in row.cell], MOST_DOTS)
    title = f"{report_data.metric.label} against {name}"
    is_log = _is_log(report_data, name, [row.cell[name] for row in of_axis])
    dots, x_text = _dots(report_data, of_axis, name, is_log)
    image = scatter_chart(dots, title, name, report_data.metric_title, x_is_log=is_log, x_names=x_text)
    return SearchChart(title, [("", image)], (), _note(dots, len(rows)))


def _two_axes(report_data: ReportData, rows: Sequence[Row], names: Sequence[str]) -> SearchChart | None:
    """Two axes against each other, coloured by the value: whether the best values of one depend on the other."""
    x, y = names
    both = thinned([row for row in rows if x in row.cell and y in row.cell], MOST_DOTS)
    if not all(_number(row.cell[y]) for row in both):
        x, y = y, x
    if len(both) < MIN_DOTS or not all(_number(row.cell[y]) for row in both):
        return None
    losses = [row.metric.loss(row.val_loss or 0.0) for row in both]
    (low, high), _ = robust_range([loss / unit(losses) for loss in losses])
    y_is_log = _is_log(report_data, y, [row.cell[y] for row in both])
    x_is_log = _is_log(report_data, x, [row.cell[x] for row in both])
    places, x_text = _dots(report_data, both, x, x_is_log)
    dots = [
        Dot(
            place.x,
            float(row.cell[y]),
            f"{place.label}: {place.y:g}",
            row.rank == 1,
            colour=ramp_colour((loss / unit(losses) - low) / (high - low)),
        )
        for place, row, loss in zip(places, both, losses, strict=True)
    ]
    title = f"{y} against {x}"
    image = scatter_chart(dots[::-1], title, x, y, x_is_log=x_is_log, y_is_log=y_is_log, x_names=x_text, shows_all=True)
    note = f"Each dot is a cell; bright is a better {report_data.metric.label}, and the largest dot is the best."
    return SearchChart(title, [("", image)], (), note)


def _parallel(report_data: ReportData, rows: Sequence[Row], names: Sequence[str]) -> SearchChart:
    axes: list[AxisPlaces] = []
    for name in names:
        values = [row.cell[name] for row in rows if name in row.cell]
        text = functools.partial(report_data.value, name)
        axes.append(axis_places(name, values, _is_log(report_data, name, values), text))
    title = "All axes together"
    image, left_out = parallel_coordinates(rows, axes, title, report_data.label)
    note = f"Each line is a cell; orange: the best tenth, thick: the best. Better is up on the last axis. {left_out}"
    return SearchChart(title, [("", image)], (), note.strip(), is_wide=True)


def _note(dots: Sequence[Dot], n_cells: int) -> str:
    left = f"{MOST_DOTS} of {n_cells} cells are drawn: the best half of them, and some of all others."
    return " ".join(filter(None, [edge_note(dots), left if n_cells > MOST_DOTS else ""]))


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


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
