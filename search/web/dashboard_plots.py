"""A study's plots for the dashboard, as plotly's JSON; their size does not grow with the study.

Plotly itself is not imported: that takes a second, and a figure is only data and a layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.reporting.heatmaps import Layout, complete_in, lay_out
from search.statistics.inference import mean
from search.statistics.ranking import Row, metrics_of
from search.study.metrics import DEFAULT_NAME

MAX_PANELS, MAX_CURVES, MAX_SEEDS, MAX_LINES = 6, 8, 20, 500
# Okabe and Ito's colours, which colour-blind readers can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")

Curve = Sequence[tuple[int, float]]  # (step, value), in order of step


def heat_maps(rows: Sequence[Row], grid: Mapping[str, Sequence[Any]]) -> dict[str, Any] | None:
    """The metric by two axes of the grid, with a panel for each value of a third, as on the report page.

    Returns:
        The figure; None if the grid has no numeric axis or no complete cell.
    """
    found = lay_out(rows, grid)
    if found is None:
        return None
    # plotly draws no axes for a panel without a tile.
    facets = [facet for facet in found.facets if any(place[0] == facet for place in found.best)][:MAX_PANELS]
    layout = plot_layout(
        f"{found.metric.name} by {' and '.join(filter(None, (found.x, found.y)))}: {found.metric.better} is better"
    )
    low, high = sorted(found.extremes)
    # Good values are bright.
    layout["coloraxis"] = {
        **{"colorscale": "Viridis", "reversescale": found.metric.sign == 1, "cmin": low, "cmax": high},
        "colorbar": {"title": {"text": found.metric.name, "side": "right"}},
    }
    layout["annotations"], data = [], []
    for at, facet in enumerate(facets):
        axis, left = str(at + 1 if at else ""), at / len(facets)
        domain = [left, left + 0.88 / len(facets)]
        layout[f"xaxis{axis}"] = plot_axis(found.x, domain=domain, anchor=f"y{axis}", type="category")
        layout[f"yaxis{axis}"] = plot_axis(
            "" if at else found.y, anchor=f"x{axis}", type="category", showticklabels=at == 0
        )
        name = "" if facet is None else str(facet)
        title = {"text": name, "showarrow": False, "xref": "paper", "yref": "paper", "x": sum(domain) / 2, "y": 1.08}
        layout["annotations"].append(title)
        data.append(_heat_map(found, facet, axis))
    return {"data": data, "layout": layout}


def _heat_map(found: Layout, facet: Any, axis: str) -> dict[str, Any]:
    rows = [[found.best.get((facet, y, x)) for x in found.xs] for y in found.ys]
    names = ", ".join([f"{found.x} %{{x}}", *([f"{found.y} %{{y}}"] if found.y else [])])
    return {
        **{"type": "heatmap", "x": [str(x) for x in found.xs], "y": ["" if y is None else str(y) for y in found.ys]},
        **{"z": [[None if row is None else row.val_loss for row in line] for line in rows]},
        **{"xaxis": f"x{axis}", "yaxis": f"y{axis}", "coloraxis": "coloraxis", "texttemplate": "%{z:.2f}"},
        **{"hovertemplate": names + ": %{z:.4f}<extra></extra>", "hoverongaps": False},
    }


def parallel_coordinates(rows: Sequence[Row], grid: Mapping[str, Sequence[Any]]) -> dict[str, Any] | None:
    """A line for each complete cell through its values on every axis of the grid, coloured by the metric.

    Returns:
        The figure; None if fewer than two axes have several values.
    """
    done = complete_in(rows, grid)[:MAX_LINES]
    axes = [name for name in grid if len({row.cell[name] for row in done}) > 1]
    if len(axes) < 2:
        return None
    dimensions = [
        {"label": name, "values": [row.cell[name] for row in done], "categoryorder": "category ascending"}
        for name in axes
    ]
    metric = metrics_of(done)[0]
    colour = {
        **{"color": [row.val_loss for row in done], "colorscale": "Viridis", "showscale": True},
        **{"reversescale": metric.sign == 1},
        **{"shape": "hspline", "colorbar": {"title": {"text": metric.name, "side": "right"}}},
    }
    lines = {"type": "parcats", "dimensions": dimensions, "line": colour, "hoveron": "color", "hoverinfo": "count"}
    return {
        "data": [lines],
        "layout": plot_layout(f"Parallel coordinates: one line per cell, coloured by its {metric.name}"),
    }


def best_cells(rows: Sequence[Row]) -> list[Row]:
    """The cells whose curves are shown: the best ones with a loss."""
    return [row for row in rows if row.val_loss is not None][:MAX_CURVES]


def learning_curves(curves: Mapping[str, Sequence[Curve]], metric: str = DEFAULT_NAME) -> dict[str, Any] | None:
    """The mean value of each cell's seeds by step, with a band from the lowest to the highest.

    Args:
        curves: The curves of a cell's seeds, by the cell's label.
        metric: What the values are.

    Returns:
        The figure; None if there are no curves.
    """
    data: list[dict[str, Any]] = []
    for at, (label, seeds) in enumerate(curves.items()):
        by_step: dict[int, list[float]] = {}
        for curve in seeds:
            for step, loss in curve:
                by_step.setdefault(step, []).append(loss)
        # Only steps that all seeds reached: a mean over the seeds that were not pruned would drop as no seed does.
        steps = [step for step in sorted(by_step) if len(by_step[step]) == len(seeds)]
        if not steps:
            continue
        colour = COLOURS[at % len(COLOURS)]
        if len(seeds) > 1:
            data.append(_band(steps, by_step, colour, label))
        means = [round(mean(by_step[step]), 6) for step in steps]
        line = {"type": "scatter", "mode": "lines+markers", "line": {"color": colour}, "legendgroup": label}
        data.append({**line, "x": steps, "y": means, "name": label})
    if not data:
        return None
    layout = plot_layout(
        f"Learning curves of the best {len(curves)} cells: mean over seeds, band from lowest to highest"
    )
    layout |= {"xaxis": plot_axis("training steps"), "yaxis": plot_axis(metric), "height": 450 + 22 * len(curves)}
    layout["legend"] = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"}
    return {"data": data, "layout": layout}


def _band(steps: list[int], by_step: Mapping[int, list[float]], colour: str, label: str) -> dict[str, Any]:
    highest, lowest = ([round(pick(by_step[step]), 6) for step in steps] for pick in (max, min))
    style = {"type": "scatter", "fill": "toself", "fillcolor": colour, "opacity": 0.2, "line": {"width": 0}}
    outline = {"x": [*steps, *reversed(steps)], "y": [*highest, *reversed(lowest)]}
    return {**style, **outline, "showlegend": False, "legendgroup": label, "hoverinfo": "skip", "mode": "lines"}


def plot_layout(title: str) -> dict[str, Any]:
    """The layout of a plot."""
    margin = {"t": 90, "l": 70, "r": 40, "b": 60}
    return {"title": {"text": title, "font": {"size": 15}}, "margin": margin, "height": 450}


def plot_axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis of a plot."""
    return {"title": {"text": title}, **more}
