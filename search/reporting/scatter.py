"""Scatter charts as SVG text: dots, perhaps with a line of steps, on linear, logarithmic or named places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from markupsafe import Markup, escape

from search.reporting.chart_range import robust_range
from search.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, frame, scale_to, svg, ticks
from search.statistics.inference import unit
from search.storage.texts import shortened
from search.study.formatting import count_text

# Of what a dot is called.
MOST_CHARACTERS = 120


@dataclass(frozen=True)
class Dot:
    """A point of a scatter chart; a marked one is larger and of another colour, a hollow one is a ring.

    Attributes:
        colour: Of its own, such as "#00224e"; "" for that of its kind.
    """

    x: float
    y: float
    label: str
    is_marked: bool = False
    is_hollow: bool = False
    colour: str = ""


def scatter_chart(
    dots: Sequence[Dot],
    title: str,
    x_label: str,
    y_label: str,
    *,
    line: Sequence[tuple[float, float]] = (),
    x_is_log: bool = False,
    y_is_log: bool = False,
    x_names: Mapping[float, str] | None = None,
    shows_all: bool = False,
) -> Markup:
    """Dots, and perhaps a line of steps through other points.

    Args:
        dots: At least one.
        x_is_log, y_is_log: Whether an axis is logarithmic; all its values are positive then.
        x_names: The places of an x axis without numbers, and what they are.
        shows_all: Whether the y axis reaches to all dots, even if one is far away; else that one is at the edge.
    """
    scale = 1.0 if y_is_log else unit(dot.y for dot in dots)
    x_scale = 1.0 if x_is_log or x_names else unit(dot.x for dot in dots)

    def place(x: float) -> float:
        return math.log10(x) if x_is_log else x / x_scale

    def height(y: float) -> float:
        return math.log10(y) if y_is_log else y / scale

    xs, ys = [place(dot.x) for dot in dots], [height(dot.y) for dot in dots]
    x_low, x_high = _with_margin(min(xs), max(xs))
    y_low, y_high = _with_margin(min(ys), max(ys)) if shows_all or y_is_log else robust_range(ys)[0]
    x_at, y_at = scale_to(x_low, x_high, LEFT, WIDTH - RIGHT), scale_to(y_low, y_high, HEIGHT - BOTTOM, TOP)

    def y_within(y: float) -> float:
        return y_at(min(max(height(y), y_low), y_high))

    x_ticks = sorted(x_names) if x_names else log_ticks(x_low, x_high) if x_is_log else ticks(x_low, x_high)
    x_texts = x_names or {at: _power_text(at) if x_is_log else _product_text(at, x_scale) for at in x_ticks}
    y_ticks = log_ticks(y_low, y_high) if y_is_log else ticks(y_low, y_high)
    y_texts = {at: _power_text(at) if y_is_log else _product_text(at, scale) for at in y_ticks}
    parts = [frame(x_at, y_at, x_texts, y_texts, x_label, y_label)]
    if line:
        moves = [f"M{x_at(place(line[0][0])):.1f} {y_within(line[0][1]):.1f}"]
        moves += [f"H{x_at(place(x)):.1f}V{y_within(y):.1f}" for x, y in line[1:]]
        parts.append(f'<path class="line c1" d="{"".join(moves)}"/>')
    for dot in sorted(dots, key=lambda dot: dot.is_marked):
        where = f'cx="{x_at(place(dot.x)):.1f}" cy="{y_within(dot.y):.1f}" r="{5 if dot.is_marked else 3}"'
        where += f' style="fill:{dot.colour}"' if dot.colour else ""
        mark = f"{'ring' if dot.is_hollow else 'dot'} c{int(dot.is_marked)}{' ramped' if dot.colour else ''}"
        said = f"{escape(shortened(dot.label, MOST_CHARACTERS))}: {dot.y:g}"
        parts.append(f'<circle class="{mark}" {where}><title>{said}</title></circle>')
    return svg(WIDTH, HEIGHT, title, "".join(parts))


def spans_decades(values: Sequence[Any]) -> bool:
    """Whether all are positive numbers and the largest is at least 1000 times the smallest."""
    are_numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) and each > 0 for each in values)
    return are_numbers and bool(values) and max(values) >= 1000 * min(values)


def edge_note(dots: Sequence[Dot]) -> str:
    """A sentence about the dots that a chart draws at its edge; "" if there are none."""
    scale = unit(dot.y for dot in dots)
    _, beyond = robust_range([dot.y / scale for dot in dots])
    return f"{count_text(beyond, 'value lies', 'values lie')} far outside and at the edge." if beyond else ""


def log_ticks(low: float, high: float) -> list[float]:
    """The logarithms of round numbers from low to high, which are logarithms too: powers of ten, or more in between."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [at for at in (power + math.log10(each) for power in powers for each in factors) if low <= at <= high]
        if len(found) >= 3:
            break
    return found


def _product_text(at: float, scale: float) -> str:
    """A tick as a value, which can be beyond the floats; in few digits where a power of two makes it no round one."""
    if scale == 1.0:
        return f"{at:g}"
    return f"{at * scale:.2g}" if math.isfinite(at * scale) else f"{Decimal(at) * Decimal(scale):.2g}"


def _power_text(at: float) -> str:
    """Ten to the power of `at`, which can be beyond the floats."""
    return f"{10**at:.3g}" if at < 308 else f"{10 ** (at - math.floor(at)):.3g}e+{math.floor(at)}"


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.05 if high > low else 0.05
    return low - margin, high + margin
