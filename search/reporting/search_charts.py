"""Charts of a search: the Pareto front, the best value so far, and those of the axes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from search.reporting.axis_charts import axis_charts
from search.reporting.parallel_coordinates import thinned
from search.reporting.report_data import ReportData
from search.reporting.scatter import Dot, edge_note, scatter_chart, spans_decades
from search.reporting.search_dots import KINDS, MIN_DOTS, MOST_DOTS, Kind, SearchChart, best_so_far, objective_pairs
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.formatting import count_text

# The classes of the kinds of dots in a legend.
_MARKS: Mapping[Kind, str] = {"front": "dot c1", "other": "dot c0", "infeasible": "ring c0"}


def search_charts(report_data: ReportData) -> list[SearchChart]:
    """The charts of a study with several objectives or with a sampler; none for others."""
    charts = [_front(report_data)] if len(report_data.stored.definition.metrics) > 1 else []
    if report_data.stored.definition.sampler is not None or report_data.stored.is_made_by_optuna:
        charts += [_so_far(report_data), *axis_charts(report_data)]
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
            for dot in thinned(pair.dots, MOST_DOTS)
        ]
        x_is_log, y_is_log = (spans_decades([getattr(dot, at) for dot in dots]) for at in ("x", "y"))
        image = scatter_chart(
            dots, pair.title, pair.x.name, pair.y.name, x_is_log=x_is_log, y_is_log=y_is_log, shows_all=True
        )
        panels.append(("" if single else pair.title, image))
    note = "; ".join(f"{each.name}: {each.better} is better" for each in metrics) + "."
    if not single:
        note += " The front is that of all objectives together."
    if left_out:
        note += f" {count_text(left_out, 'further pair')} {'is' if left_out == 1 else 'are'} left out."
    if (most := max(len(pair.dots) for pair in pairs)) > MOST_DOTS:
        note += f" {MOST_DOTS} of {most} cells are drawn: the best half of them, and some of all others."
    kinds = {dot.kind for pair in pairs for dot in pair.dots}
    return SearchChart(title, panels, [(_MARKS[kind], KINDS[kind]) for kind in KINDS if kind in kinds], note)


def _so_far(report_data: ReportData) -> SearchChart | None:
    """The values of complete trials in the order of their ends, and the best feasible one until then."""
    feasible = {canonical(row.cell): row.is_feasible for row in report_data.rows}
    ended = [
        (trial.finished_at, trial.value, without_seed(trial.cell))
        for trial in report_data.trials
        if trial.study == report_data.name
        and trial.state == "complete"
        and trial.finished_at is not None
        and trial.value is not None
        and math.isfinite(trial.value)
    ]
    ended.sort(key=lambda each: each[0])
    if len(ended) < MIN_DOTS:
        return None
    trials, best = best_so_far(
        ((value, cell, feasible.get(canonical(cell), True)) for _, value, cell in ended), report_data.metric
    )
    every = math.ceil(len(trials) / MOST_DOTS)
    changes = {at for at, _ in best}
    drawn = [trial for trial in trials if trial.at % every == 0 or trial.at in changes]
    dots = [
        Dot(trial.at, trial.value, report_data.label(trial.cell), is_hollow=not trial.is_feasible) for trial in drawn
    ]
    line = [(float(at), value) for at, value in [*best, *((len(trials), best[-1][1]) for _ in best[-1:])]]
    title, below = "The best so far", "complete trials, in the order of their ends"
    legend = []
    if any(not trial.is_feasible for trial in trials):
        legend = [(_MARKS["other"], "feasible trials"), (_MARKS["infeasible"], KINDS["infeasible"])]
    left = f"{len(drawn)} of {len(trials)} trials are drawn." if len(drawn) < len(trials) else ""
    image = scatter_chart(dots, title, below, report_data.metric_title, line=line)
    return SearchChart(title, [("", image)], legend, " ".join(filter(None, [edge_note(dots), left])))
