"""Charts as SVG text: lines with bands, and bars over time. The page's style sheet sets the colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from search.statistics.inference import mean, unit

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 12, 44
# The style sheet has this many line colours; dashes separate lines of similar colours.
LINE_STYLES = 7


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
    raw = (high - low) / most
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
    lines = [replace(line, points=[_divided(point, scale) for point in line.points]) for line in lines]
    reference = None if reference is None else reference / scale
    points = [point for line in lines for point in line.points]
    x_low, x_high = min(p.x for p in points), max(p.x for p in points)
    y_low, y_high = min(p.low for p in points), max(p.high for p in points)
    if reference is not None and y_low - (y_high - y_low) <= reference <= y_high + (y_high - y_low):
        y_low, y_high = min(y_low, reference), max(y_high, reference)
    margin = (y_high - y_low) * 0.05 if y_high > y_low else 0.05
    y_low, y_high = y_low - margin, y_high + margin
    x_at = _scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_at = _scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
    parts = [_frame(x_at, y_at, ticks(x_low, x_high), ticks(y_low, y_high), x_label, y_label, scale)]
    if reference is not None and y_low <= reference <= y_high:
        y = y_at(reference)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for index, line in enumerate(lines):
        parts.append(_line(line, index % LINE_STYLES, x_at, y_at))
    return svg(WIDTH, HEIGHT, title, "".join(parts))


@dataclass(frozen=True)
class Dot:
    """A point of a scatter chart; a marked one is larger and of another colour, a hollow one is a ring."""

    x: float
    y: float
    label: str
    is_marked: bool = False
    is_hollow: bool = False


def scatter_chart(
    dots: Sequence[Dot],
    title: str,
    x_label: str,
    y_label: str,
    *,
    line: Sequence[tuple[float, float]] = (),
    x_is_log: bool = False,
    x_names: Mapping[float, str] | None = None,
) -> Markup:
    """Dots, and perhaps a line of steps through other points.

    Args:
        dots: At least one.
        x_is_log: Whether the x axis is logarithmic; all x are positive then.
        x_names: The places of an x axis without numbers, and what they are.
    """
    scale = unit(dot.y for dot in dots)
    place = math.log10 if x_is_log else float
    xs, ys = [place(dot.x) for dot in dots], [dot.y / scale for dot in dots]
    (x_low, x_high), (y_low, y_high) = _with_margin(min(xs), max(xs)), _with_margin(min(ys), max(ys))
    x_at, y_at = _scale(x_low, x_high, LEFT, WIDTH - RIGHT), _scale(y_low, y_high, HEIGHT - BOTTOM, TOP)
    x_ticks = sorted(x_names) if x_names else log_ticks(x_low, x_high) if x_is_log else ticks(x_low, x_high)
    texts = x_names or {at: f"{10**at:.3g}" if x_is_log else f"{at:g}" for at in x_ticks}
    parts = [_frame(x_at, y_at, x_ticks, ticks(y_low, y_high), x_label, y_label, scale, texts)]
    if line:
        moves = [f"M{x_at(line[0][0]):.1f} {y_at(line[0][1] / scale):.1f}"]
        moves += [f"H{x_at(x):.1f}V{y_at(y / scale):.1f}" for x, y in line[1:]]
        parts.append(f'<path class="line c1" d="{"".join(moves)}"/>')
    for dot in sorted(dots, key=lambda dot: dot.is_marked):
        where = f'cx="{x_at(place(dot.x)):.1f}" cy="{y_at(dot.y / scale):.1f}" r="{5 if dot.is_marked else 3}"'
        text = f"{dot.label}: {dot.y:g}"
        mark = f"{'ring' if dot.is_hollow else 'dot'} c{int(dot.is_marked)}"
        parts.append(f'<circle class="{mark}" {where}><title>{escape(text)}</title></circle>')
    return svg(WIDTH, HEIGHT, title, "".join(parts))


def log_ticks(low: float, high: float) -> list[float]:
    """The logarithms of round numbers from low to high, which are logarithms too: powers of ten, or more in between."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [at for at in (power + math.log10(each) for power in powers for each in factors) if low <= at <= high]
        if len(found) >= 3:
            break
    return found


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.05 if high > low else 0.05
    return low - margin, high + margin


def _divided(point: Point, scale: float) -> Point:
    return Point(point.x, point.mean / scale, point.low / scale, point.high / scale)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low
    return lambda value: start + (end - start) * ((value - low) / span if span else 0.5)


def _frame(
    x_at: Callable[[float], float],
    y_at: Callable[[float], float],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
    scale: float = 1.0,
    x_texts: Mapping[float, str] | None = None,
) -> str:
    parts = []
    for value in y_ticks:
        y = y_at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{value * scale:g}</text>')
    texts = x_texts or {value: f"{value:g}" for value in x_ticks}
    for value in x_ticks:
        name = escape(texts[value])
        parts.append(f'<text class="mid" x="{x_at(value):.1f}" y="{HEIGHT - BOTTOM + 16}">{name}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="mid" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">{escape(x_label)}</text>')
    parts.append(f'<text class="mid" transform="translate(14 {middle}) rotate(-90)">{escape(y_label)}</text>')
    return "".join(parts)


def _line(line: Line, style: int, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> str:
    upper = [f"{x_at(p.x):.1f},{y_at(p.high):.1f}" for p in line.points]
    lower = [f"{x_at(p.x):.1f},{y_at(p.low):.1f}" for p in reversed(line.points)]
    means = [f"{x_at(p.x):.1f},{y_at(p.mean):.1f}" for p in line.points]
    has_band = any(p.high > p.low for p in line.points)
    band = f'<polygon class="band c{style}" points="{" ".join(upper + lower)}"/>' if has_band else ""
    if len(means) == 1:
        x, y = means[0].split(",")
        return (
            f'{band}<circle class="dot c{style}" cx="{x}" cy="{y}" r="3"><title>{escape(line.label)}</title></circle>'
        )
    name = f"<title>{escape(line.label)}</title>"
    return f'{band}<polyline class="line c{style}" points="{" ".join(means)}">{name}</polyline>'


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
    x_at = _scale(0, last / seconds, LEFT, WIDTH - RIGHT)
    y_at = _scale(0, len(bars), TOP, HEIGHT - BOTTOM)
    rows = [value for value in ticks(0, len(bars)) if value == int(value)]
    parts = [_frame(x_at, y_at, ticks(0, last / seconds), rows, f"{unit} since the first trial began", "trials begun")]
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
