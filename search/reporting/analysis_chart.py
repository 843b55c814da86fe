"""Charts of analyses as SVG text: points with error bars and lines over a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from search.reporting.chart_range import MARGIN, parts_within
from search.reporting.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LINE_STYLES,
    RIGHT,
    TOP,
    WIDTH,
    frame,
    scale_to,
    svg,
    tick_texts,
)
from search.reporting.charts import ticks as linear_ticks
from search.statistics.analysis import Chart, Series

MOST_TICKS = 7
# Digits of round numbers, the coarsest first.
ROUND = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(range(10, 100, 5)), tuple(range(100, 1000, 10)))


def analysis_chart(chart: Chart) -> Markup:
    """Draw a chart."""
    xs = [math.log(value) for each in chart.series for value in (*each.x, *each.left, *each.right)]
    to_y: Callable[[float], float] = math.log if chart.log_y else float
    ys = [to_y(value) for each in chart.series for value in (*each.y, *each.low, *each.high)]
    (x_low, x_high), (y_low, y_high) = _widened(xs), _widened(ys)
    x_at = scale_to(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_at = scale_to(y_low, y_high, HEIGHT - BOTTOM, TOP)
    y_texts = _log_texts(y_low, y_high) if chart.log_y else tick_texts(linear_ticks(y_low, y_high))
    parts = [frame(x_at, y_at, _log_texts(x_low, x_high), y_texts, chart.x_label, chart.y_label)]
    for each in chart.series:
        parts.append(_drawn(each, lambda value: x_at(math.log(value)), lambda value: y_at(to_y(value))))
    return svg(WIDTH, HEIGHT, chart.title, "".join(parts))


def legend_of(chart: Chart) -> list[tuple[int, str, bool]]:
    """The style and the label of each series that has one, and whether it is a line."""
    return [(each.style % LINE_STYLES, each.label, each.is_line) for each in chart.series if each.label]


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * MARGIN or 0.1
    return low - margin, high + margin


def _log_texts(low: float, high: float) -> dict[float, str]:
    """Round numbers between two logarithms, by their logarithms."""
    for digits in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        tuple(range(10, 100, 5)),
        tuple(range(100, 1000, 10)),
    ):
        powers = range(math.floor(low / math.log(10)) - 3, math.ceil(high / math.log(10)) + 1)
        values = [float(f"{digit * 10.0**power:.6g}") for power in powers for digit in digits]
        inside = [value for value in sorted(set(values)) if low <= math.log(value) <= high]
        if len(inside) >= 3:
            every = math.ceil(len(inside) / MOST_TICKS)
            return {math.log(value): _text(value) for value in inside[::every]}
    return {middle: _text(math.exp(middle)) for middle in ((low + high) / 2,)}


def _text(value: float) -> str:
    if 1e-4 <= value < 1e5:
        return f"{value:g}"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(power)}"


def _drawn(series: Series, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> str:
    style, name = series.style % LINE_STYLES, f"<title>{escape(series.label)}</title>"
    if series.is_line:
        parts = parts_within([(x_at(x), y_at(y)) for x, y in zip(series.x, series.y, strict=True)], -1e6, 1e6)
        texts = (" ".join(f"{x:.1f},{y:.1f}" for x, y in part) for part in parts)
        return "".join(f'<polyline class="line c{style}" points="{text}">{name}</polyline>' for text in texts)
    found = []
    for at, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        if series.low:
            found.append(_bar(style, f"M{x_at(x):.1f} {y_at(series.low[at]):.1f}V{y_at(series.high[at]):.1f}"))
        if series.left:
            found.append(_bar(style, f"M{x_at(series.left[at]):.1f} {y_at(y):.1f}H{x_at(series.right[at]):.1f}"))
        said = f"<title>{escape(f'{x:.4g}, {y:.5g}')}</title>"
        mark, radius = ("ring", 6) if series.is_ring else ("dot", 3.2)
        found.append(
            f'<circle class="{mark} c{style}" cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="{radius}">{said}</circle>'
        )
    return "".join(found)


def _bar(style: int, path: str) -> str:
    return f'<path class="whisker c{style}" d="{path}"/>'
