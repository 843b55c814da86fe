"""The charts of an analysis of the kind "scaling"."""

from __future__ import annotations

import math

import numpy as np

from search.statistics.analysis import Chart, Series
from search.statistics.inference import Floats
from search.statistics.scaling import ScalingResult, frontier
from search.study.formatting import number_text
from search.study.metrics import Metric

MOST_LINES, LINE_PLACES = 7, 60


def scaling_charts(result: ScalingResult, metric: Metric) -> list[Chart]:
    if len(result.quantities) == 1:
        [name] = result.quantities
        return [_one_quantity(result, name, metric)]
    return [_by_size(result, metric), *_iso_chart(result, metric), *_compute_chart(result, metric)]


def _one_quantity(result: ScalingResult, name: str, metric: Metric) -> Chart:
    x = result.fit.x[:, 0]
    places = np.geomspace(x.min(), x.max(), LINE_PLACES)
    line = result.fit.law.loss(places[:, np.newaxis])[0]
    series = [
        Series("law", places.tolist(), line.tolist(), is_line=True),
        Series("measured", x.tolist(), result.fit.losses.tolist()),
    ]
    return Chart(f"{metric.label} over {name}", name, metric.label, series, log_y=True)


def _by_size(result: ScalingResult, metric: Metric) -> Chart:
    """Losses over parameters, with a line for each number of tokens."""
    x, losses = result.fit.x, result.fit.losses
    lengths = sorted(set(x[:, 1].tolist()))
    every = math.ceil(len(lengths) / MOST_LINES)
    sizes = np.geomspace(x[:, 0].min(), x[:, 0].max(), LINE_PLACES)
    series = []
    for style, length in enumerate(lengths[::-1][::every]):
        line = result.fit.law.loss(np.stack([sizes, np.full(LINE_PLACES, length)], axis=1))[0]
        here = x[:, 1] == length
        series.append(Series(f"{number_text(length)} tokens", sizes.tolist(), line.tolist(), is_line=True, style=style))
        series.append(Series("", x[here, 0].tolist(), losses[here].tolist(), style=style))
    note = "Points: measured. Lines: the law."
    return Chart(f"{metric.label} over parameters", "parameters", metric.label, series, log_y=True, note=note)


def _iso_chart(result: ScalingResult, metric: Metric) -> list[Chart]:
    series = []
    for style, each in enumerate(result.iso_flops):
        points = each.curve.points
        places = np.linspace(points.at[0], points.at[-1], LINE_PLACES)
        line = each.curve.weights(places) @ points.mean
        label = f"{number_text(each.flops)} FLOPs"
        series.append(Series(label, np.exp(places).tolist(), line.tolist(), is_line=True, style=style))
        series.append(Series("", np.exp(points.at).tolist(), points.mean.tolist(), style=style))
    note = "Points: interpolated along the length of training. Lines: fitted near the lowest point."
    chart = Chart(f"{metric.label} at equal compute", "parameters", metric.label, series, note=note)
    return [chart] if series else []


def _compute_chart(result: ScalingResult, metric: Metric) -> list[Chart]:
    if result.per_product is None:
        return []
    amounts = np.array([each.flops or math.nan for each in result.configurations])
    places = np.geomspace(np.nanmin(amounts), np.nanmax(amounts), LINE_PLACES)
    _, best = frontier(result.fit, places, result.per_product)
    series = [Series("best split of compute, by the law", places.tolist(), best[0].tolist(), is_line=True)]
    sizes: Floats = result.fit.x[:, 0]
    ranks = {value: rank for rank, value in enumerate(sorted(set(sizes.tolist())))}
    style = np.array([1 + ranks[value] * 3 // len(ranks) for value in sizes.tolist()])
    for each, words in ((1, "small"), (2, "middle"), (3, "large")):
        here = style == each
        series.append(Series(f"{words} sizes", amounts[here].tolist(), result.fit.losses[here].tolist(), style=each))
    return [Chart(f"{metric.label} over compute", "floating-point operations", metric.label, series, log_y=True)]
