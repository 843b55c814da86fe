"""Parallel coordinates: a line for each cell through its values on all axes; the best ones have a colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from markupsafe import Markup, escape

from search.reporting.chart_range import robust_range
from search.reporting.charts import svg, ticks
from search.reporting.scatter import log_ticks
from search.statistics.inference import unit
from search.statistics.ranking import Row
from search.study.formatting import loss_text, value_text

Thing = TypeVar("Thing")
# Lines and axes that are drawn.
MOST_LINES, MOST_AXES = 200, 10
# The share of the cells whose lines have a colour.
GOOD_SHARE = 0.1
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 330, 60, 70, 34, 14
# Names of places on an axis without numbers.
MOST_NAMES = 12


@dataclass(frozen=True)
class AxisPlaces:
    """Where the values of an axis are on a line.

    Attributes:
        name: Of the axis.
        place: A value as a share of the line, 0 at its lower end; None for a value that is not on it.
        marks: Shares and texts.
    """

    name: str
    place: Callable[[Any], float | None]
    marks: Sequence[tuple[float, str]]


def axis_places(name: str, values: Sequence[Any], is_log: bool, text: Callable[[Any], str]) -> AxisPlaces:
    """The places of an axis: those of numbers, or one for each different value.

    Args:
        values: The values that cells have.
        text: A value as text.
    """
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values):
        names = list(dict.fromkeys(text(value) for value in values))
        places = {each: (at + 0.5) / len(names) for at, each in enumerate(names)}
        return AxisPlaces(
            name, lambda value: places.get(text(value)), [(at, each) for each, at in places.items()][:MOST_NAMES]
        )
    scale = 1.0 if is_log else unit(map(float, values))

    def number(value: Any) -> float:
        return math.log10(value) if is_log else float(value) / scale

    low, high = min(map(number, values)), max(map(number, values))
    margin = 0.03 * (high - low) or 0.5
    low, high = low - margin, high + margin
    found = log_ticks(low, high) if is_log else ticks(low, high)
    marks = [((at - low) / (high - low), f"{10**at:.3g}" if is_log else f"{at * scale:.6g}") for at in found]
    return AxisPlaces(name, lambda value: (number(value) - low) / (high - low), marks)


def parallel_coordinates(
    rows: Sequence[Row], axes: Sequence[AxisPlaces], title: str, label: Callable[[Mapping[str, Any]], str]
) -> tuple[Markup, str]:
    """The chart, and a sentence about what is left out.

    Args:
        rows: With a rank and a finite value, the best first; at least one.
        axes: At least one.
        label: The name of a cell.
    """
    shown = thinned(rows, MOST_LINES)
    drawn = axes[:MOST_AXES]
    metric, scale = rows[0].metric, unit(row.val_loss or 0.0 for row in shown)
    losses = [metric.loss(row.val_loss or 0.0) / scale for row in shown]
    (low, high), _ = robust_range(losses)
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * at / len(drawn) for at in range(len(drawn) + 1)]
    last = [(1 - (tick - low) / (high - low), loss_text(metric.loss(tick * scale), 3)) for tick in ticks(low, high, 5)]
    n_good = math.ceil(GOOD_SHARE * len(rows))
    parts = []
    for at, (row, loss) in reversed(list(enumerate(zip(shown, losses, strict=True)))):
        share = min(max((loss - low) / (high - low), 0.0), 1.0)
        parts.append(_cell(row, drawn, xs, share, label, is_good=at < n_good))
    for x, name, marks in [
        *((x, each.name, each.marks) for x, each in zip(xs, drawn, strict=False)),
        (xs[-1], metric.label, last),
    ]:
        parts.append(_axis(x, name, marks))
    notes = []
    if len(rows) > len(shown):
        notes.append(f"{len(shown)} of {len(rows)} cells are drawn: the best half of them, and some of all others.")
    if len(axes) > len(drawn):
        notes.append(f"{len(axes) - len(drawn)} more axes are left out.")
    return svg(WIDTH, HEIGHT, title, "".join(parts)), " ".join(notes)


def thinned(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most so many, of some in the order of their rank: the best half, and of the others some at equal distances."""
    if len(things) <= most:
        return list(things)
    best, others = list(things[: most // 2]), things[most // 2 :]
    step = len(others) / (most - len(best))
    return best + [others[int(at * step)] for at in range(most - len(best))]


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _cell(
    row: Row,
    axes: Sequence[AxisPlaces],
    xs: Sequence[float],
    share: float,
    label: Callable[[Mapping[str, Any]], str],
    *,
    is_good: bool,
) -> str:
    places = [axis.place(row.cell[axis.name]) if axis.name in row.cell else None for axis in axes]
    points = [(x, _y(place)) for x, place in zip(xs, places, strict=False) if place is not None]
    points.append((xs[-1], _y(1 - share)))
    moves = "L".join(f"{x:.0f} {y:.1f}" for x, y in points)
    kind = " good first" if row.rank == 1 else " good" if is_good else ""
    said = escape(f"{label(row.cell)}: {loss_text(row.val_loss, 4)}")
    return f'<path class="cell{kind}" d="M{moves}"><title>{said}</title></path>'


def _axis(x: float, name: str, marks: Sequence[tuple[float, str]]) -> str:
    parts = [f'<path class="zero" d="M{x:.0f} {TOP}V{HEIGHT - BOTTOM}"/>']
    parts.append(f'<text class="mid strong" x="{x:.0f}" y="14">{escape(value_text(name)[:24])}</text>')
    parts += [
        f'<text class="halo" x="{x + 5:.0f}" y="{_y(at) + 4:.1f}">{escape(text[:14])}</text>'
        for at, text in marks
        if 0 <= at <= 1
    ]
    return "".join(parts)
