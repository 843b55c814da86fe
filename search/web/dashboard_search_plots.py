"""Plots of a search for the dashboard: the Pareto front by pairs of objectives, and the best value so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.reporting.search_dots import KINDS, EndedTrial, Kind, best_so_far, objective_pairs
from search.statistics.ranking import Row
from search.study.formatting import count_text, describe_cell
from search.study.metrics import Metric
from search.web.dashboard_plots import COLOURS, plot_axis, plot_layout

# Rows come the best first, so the front is among them.
MAX_DOTS = 500
COLUMNS = 3
_MARKERS: Mapping[Kind, dict[str, Any]] = {
    "front": {"color": COLOURS[1], "size": 9},
    "other": {"color": COLOURS[0], "size": 6},
    "infeasible": {"color": COLOURS[0], "size": 7, "symbol": "circle-open"},
}


def pareto_front(rows: Sequence[Row], metrics: Sequence[Metric]) -> dict[str, Any] | None:
    """The complete cells by each pair of objectives.

    Returns:
        The figure; None with one objective, or without a cell that has several.
    """
    shown = [row for row in rows if row.state == "complete"]
    pairs, left_out = objective_pairs(shown[:MAX_DOTS], metrics)
    if not pairs:
        return None
    title = f"Pareto front of {', '.join(f'{each.name} ({each.better} is better)' for each in metrics)}"
    if left_out:
        title += f"; {count_text(left_out, 'further pair')} of objectives left out"
    layout, data = plot_layout(title + _only_some(shown, "cell")), []
    columns = min(COLUMNS, len(pairs))
    lines = -(-len(pairs) // columns)
    for at, pair in enumerate(pairs):
        name = str(at + 1 if at else "")
        line, column = divmod(at, columns)
        across, down = [column / columns, (column + 0.85) / columns], [1 - (line + 0.85) / lines, 1 - line / lines]
        layout[f"xaxis{name}"] = plot_axis(pair.x.name, domain=across, anchor=f"y{name}")
        layout[f"yaxis{name}"] = plot_axis(pair.y.name, domain=down, anchor=f"x{name}")
        for kind in KINDS:
            if dots := [dot for dot in pair.dots if dot.kind == kind]:
                points = [(dot.x, dot.y, describe_cell(dot.row.cell)) for dot in dots]
                data.append({**_dots(kind, points), "xaxis": f"x{name}", "yaxis": f"y{name}", "showlegend": at == 0})
    layout |= {"height": 150 + 320 * lines, "legend": {"orientation": "h", "x": 0, "y": -0.2 / lines, "yanchor": "top"}}
    return {"data": data, "layout": layout}


def _dots(kind: Kind, points: Sequence[tuple[float, float, str]]) -> dict[str, Any]:
    xs, ys, texts = zip(*points, strict=True)
    return {
        **{"type": "scatter", "mode": "markers", "name": KINDS[kind], "legendgroup": kind, "marker": _MARKERS[kind]},
        **{"x": list(xs), "y": list(ys), "text": list(texts)},
    }


def best_values(ended: Sequence[tuple[float, Mapping[str, Any], bool]], metric: Metric) -> dict[str, Any] | None:
    """The values of complete trials in the order of their ends, and the best feasible one until then.

    Args:
        ended: As for `search.reporting.search_dots.best_so_far`.

    Returns:
        The figure; None without a trial.
    """
    trials, best = best_so_far(ended, metric)
    if not trials:
        return None
    apart = -(-len(trials) // MAX_DOTS)
    changes = {at for at, _ in best}
    shown = [trial for trial in trials if trial.at % apart == 0 or trial.at in changes]
    feasible = [_point(trial) for trial in shown if trial.is_feasible]
    infeasible = [_point(trial) for trial in shown if not trial.is_feasible]
    data = [{**_dots("other", feasible), "name": "feasible trials"}] if feasible else []
    data += [_dots("infeasible", infeasible)] if infeasible else []
    if best:
        line = [*best, (len(trials), best[-1][1])]
        path = {"type": "scatter", "mode": "lines", "name": "best so far", "line": {"color": COLOURS[1], "shape": "hv"}}
        data.append({**path, "x": [at for at, _ in line], "y": [value for _, value in line]})
    layout = plot_layout(f"The best {metric.name} so far" + ("" if apart == 1 else f"; one trial of {apart} is shown"))
    layout |= {"xaxis": plot_axis("complete trials, in the order of their ends"), "yaxis": plot_axis(metric.name)}
    return {"data": data, "layout": layout}


def _point(trial: EndedTrial) -> tuple[float, float, str]:
    return trial.at, trial.value, describe_cell(trial.cell)


def _only_some(rows: Sequence[Row], noun: str) -> str:
    return f"; the first {MAX_DOTS} of {count_text(len(rows), noun)}" if len(rows) > MAX_DOTS else ""
