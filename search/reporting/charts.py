"""Charts as SVG text: lines with bands, and bars over time; a page's style sheet sets the colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from search.reporting.chart_range import parts_within, robust_range
from search.statistics.inference import mean, unit
from search.study.formatting import count_text, loss_text

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 22, 12, 44
# The style sheet has this many line colours; dashes separate lines of similar colours.
LINE_STYLES = 7
# Points of a line: a trial may report a million steps.
MOST_POINTS = 400


@dataclass(frozen=True)
class Point:
    """A mean with the range around it."""

    x: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A named line of a chart."""

    label: str
    points: Sequence[Point]


def over_seeds(curves: Sequence[Mapping[int, float]]) -> list[Point]:
    """Mean, lowest and highest of several curves, at the steps where all of them have a finite value."""
    if not curves:
        return []
    points = []
    for x in sorted(set(curves[0]).intersection(*curves[1:])):
        values = [curve[x] for curve in curves]
        if all(map(math.isfinite, values)):
            points.append(Point(x, mean(values), min(values), max(values)))
    return points


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    span = high - low
    raw = span / most if math.isfinite(span) else high / most - low / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(at * step, 12) for at in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(lines: Sequence[Line], title: str, x_label: str, y_label: str, reference: float | None = None) -> Markup:
    """Lines with bands, a grid and named axes.

    Args:
        reference: The value of a dashed horizontal line, drawn only if it is within or near the range of the lines.
    """
    scale = unit(loss for line in lines for point in line.points for loss in (point.low, point.high))
    lines = [replace(line, points=[_divided(point, scale) for point in _drawn(line.points)]) for line in lines]
    reference = None if reference is None else reference / scale
    points = [point for line in lines for point in line.points]
    x_low, x_high = min(p.x for p in points), max(p.x for p in points)
    (y_low, y_high), _ = _y_range(points)
    if reference is not None and y_low - (y_high - y_low) <= reference <= y_high + (y_high - y_low):
        y_low, y_high = min(y_low, reference), max(y_high, reference)
    x_at = scale_to(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_at = scale_to(y_low, y_high, HEIGHT - BOTTOM, TOP)
    parts = [
        frame(x_at, y_at, tick_texts(ticks(x_low, x_high)), tick_texts(ticks(y_low, y_high), scale), x_label, y_label)
    ]
    if reference is not None and y_low <= reference <= y_high:
        y = y_at(reference)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for index, line in enumerate(lines):
        parts.append(_line(line, index % LINE_STYLES, x_at, y_at, (y_low, y_high)))
    return svg(WIDTH, HEIGHT, title, "".join(parts))


def _drawn(points: Sequence[Point]) -> Sequence[Point]:
    """At most `MOST_POINTS` of the points, the last one included."""
    every = math.ceil(len(points) / MOST_POINTS)
    return [point for at, point in enumerate(reversed(points)) if at % every == 0][::-1] if every > 1 else points


def _y_range(points: Sequence[Point]) -> tuple[tuple[float, float], int]:
    return robust_range([value for point in points for value in {point.low, point.mean, point.high}])


def beyond_note(lines: Sequence[Line]) -> str:
    """A sentence about the values that a chart of these lines leaves out; "" if it has all."""
    points = [point for line in lines for point in line.points]
    scale = unit(loss for point in points for loss in (point.low, point.high))
    _, beyond = _y_range([_divided(point, scale) for point in points])
    if not beyond:
        return ""
    largest = max((value for point in points for value in (point.low, point.high)), key=abs)
    values = count_text(beyond, "value is", "values are")
    return f"{values} far outside, up to {loss_text(largest, 3)}, and left out of the scale."


def _divided(point: Point, scale: float) -> Point:
    return Point(point.x, point.mean / scale, point.low / scale, point.high / scale)


def scale_to(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """A function from values to pixels: `low` is at `start`, `high` at `end`."""
    span = high - low
    return lambda value: start + (end - start) * ((value - low) / span if span else 0.5)


def frame(
    x_at: Callable[[float], float],
    y_at: Callable[[float], float],
    x_texts: Mapping[float, str],
    y_texts: Mapping[float, str],
    x_label: str,
    y_label: str,
) -> str:
    """A grid with ticks and named axes.

    Args:
        x_texts, y_texts: The ticks, and their texts.
    """
    parts = []
    for value, text in y_texts.items():
        y = y_at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(text)}</text>')
    for value, text in x_texts.items():
        parts.append(f'<text class="mid" x="{x_at(value):.1f}" y="{HEIGHT - BOTTOM + 16}">{escape(text)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="mid" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">{escape(x_label)}</text>')
    parts.append(f'<text class="mid" transform="translate(14 {middle}) rotate(-90)">{escape(y_label)}</text>')
    return "".join(parts)


def tick_texts(values: Sequence[float], scale: float = 1.0) -> dict[float, str]:
    """The texts of ticks.

    Args:
        scale: What the values were divided by.
    """
    return {value: f"{value * scale:g}" for value in values}


def _line(
    line: Line, style: int, x_at: Callable[[float], float], y_at: Callable[[float], float], ends: tuple[float, float]
) -> str:
    low, high = ends
    name = f"<title>{escape(line.label)}</title>"
    band = ""
    if any(point.high > point.low for point in line.points):
        reach = [(x_at(p.x), y_at(max(min(p.low, high), low)), y_at(max(min(p.high, high), low))) for p in line.points]
        outline = [f"{x:.1f},{upper:.1f}" for x, _, upper in reach] + [
            f"{x:.1f},{lower:.1f}" for x, lower, _ in reach[::-1]
        ]
        band = f'<polygon class="band c{style}" points="{" ".join(outline)}"/>'
    if len(line.points) == 1:
        [only] = line.points
        at = f'cx="{x_at(only.x):.1f}" cy="{y_at(only.mean):.1f}"'
        return f'{band}<circle class="dot c{style}" {at} r="3">{name}</circle>'
    parts = parts_within([(point.x, point.mean) for point in line.points], low, high)
    texts = (" ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in part) for part in parts)
    return band + "".join(f'<polyline class="line c{style}" points="{text}">{name}</polyline>' for text in texts)


@dataclass(frozen=True)
class Bar:
    """A trial's time.

    Attributes:
        start, end: Seconds since the first trial began.
    """

    start: float
    end: float
    outcome: str


def timeline(bars: Sequence[Bar], title: str) -> Markup:
    """One thin bar per trial, the earliest on top, coloured by outcome; one SVG path per outcome keeps it small."""
    last = max(bar.end for bar in bars)
    last = last if last > 0 else 1.0
    unit, seconds = next(
        (u, s) for u, s in (("hours", 3600), ("minutes", 60), ("seconds", 1)) if last >= 2 * s or s == 1
    )
    x_at = scale_to(0, last / seconds, LEFT, WIDTH - RIGHT)
    y_at = scale_to(0, len(bars), TOP, HEIGHT - BOTTOM)
    rows = [value for value in ticks(0, len(bars)) if value == int(value)]
    parts = [
        frame(
            x_at,
            y_at,
            tick_texts(ticks(0, last / seconds)),
            tick_texts(rows),
            f"{unit} since the first trial began",
            "trials begun",
        )
    ]
    thickness = max((HEIGHT - TOP - BOTTOM) / len(bars) * 0.8, 1.5)
    segments: dict[str, list[str]] = {}
    for index, bar in enumerate(sorted(bars, key=lambda bar: bar.start)):
        left, right = x_at(bar.start / seconds), x_at(bar.end / seconds)
        segments.setdefault(bar.outcome, []).append(f"M{left:.1f} {y_at(index + 0.5):.1f}h{max(right - left, 0.5):.1f}")
    for outcome, moves in segments.items():
        parts.append(f'<path class="bar {outcome}" stroke-width="{thickness:.2f}" d="{"".join(moves)}"/>')
    return svg(WIDTH, HEIGHT, title, "".join(parts))


def svg(width: float, height: float, title: str, body: str) -> Markup:
    """An image that scales with the page; screen readers read its title."""
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
