"""Heat maps of the grid: two numeric axes, and one map for each value of a third."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from search.reporting.charts import svg
from search.statistics.inference import unit
from search.statistics.ranking import Row
from search.study.formatting import enough_digits, loss_text, value_text
from search.study.metrics import Metric

# If the study has these axes, the maps are laid out as in the experiment log.
PREFERRED = ("n_embd", "block_size")
PREFERRED_FACET = "pe_type"
MOST_TICKS, MOST_MAPS = 16, 9
TILE_W, TILE_H, LEFT, TOP, BOTTOM = 74, 40, 62, 8, 40
# Cividis (Nuñez, Anderton, Renslow 2018): perceptually uniform, also for colour-blind readers. Good values are bright.
RAMP = ("#fee838", "#e1cc55", "#c3b369", "#a59c74", "#8a8678", "#707173", "#575d6d", "#3b496c", "#123570", "#00224e")


@dataclass(frozen=True)
class MapAxes:
    """The axes of a grid that heat maps show: x and y of a map, and the facet, with one map per value."""

    x: str | None
    y: str | None
    facet: str | None

    @property
    def shown(self) -> set[str]:
        """The names of the axes that are shown."""
        return {name for name in (self.x, self.y, self.facet) if name is not None}


@dataclass(frozen=True)
class HeatMap:
    """One map, and the heading above it."""

    heading: str
    image: Markup


@dataclass(frozen=True)
class HeatMaps:
    """All maps of a study, the values at both extremes of their common colour ramp, and notes on what is left out."""

    maps: Sequence[HeatMap]
    best: float
    worst: float
    notes: Sequence[str]


def choose_axes(grid: Mapping[str, Sequence[Any]]) -> MapAxes:
    """Choose among the axes with more than one value: numeric ones for x and y, another for the facet."""
    varied = [name for name, values in grid.items() if len(values) > 1]
    numeric = [name for name in varied if all(_is_number(value) for value in grid[name])]
    numeric.sort(key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    rest = sorted((name for name in varied if name not in numeric), key=lambda name: name != PREFERRED_FACET)
    x, y = (*numeric[:2], None, None)[:2]
    facet = next(iter([*rest, *numeric[2:]]), None)
    return MapAxes(x, y, facet)


@dataclass(frozen=True)
class Layout:
    """The places of the cells in the maps.

    Attributes:
        x, y, facet: Names of axes; "" for a missing y or facet.
        xs, ys, facets: Their values that are shown; a single None for a missing y or facet.
        best: The cell by values of facet, y and x; it has a final loss and is the best of the cells that differ only in
            other axes.
        notes: Sentences about what is not shown.
    """

    x: str
    y: str
    facet: str
    xs: Sequence[Any]
    ys: Sequence[Any]
    facets: Sequence[Any]
    best: Mapping[tuple[Any, Any, Any], Row]
    notes: Sequence[str]

    @property
    def extremes(self) -> tuple[float, float]:
        """The best and the worst value."""
        values = sorted(self.best.values(), key=_loss)
        return _value(values[0]), _value(values[-1])

    @property
    def metric(self) -> Metric:
        """What the values are."""
        return next(iter(self.best.values())).metric


def complete_in(rows: Sequence[Row], grid: Mapping[str, Sequence[Any]]) -> list[Row]:
    """The rows that have a final loss and a value on every axis; baselines have no such values."""
    return [row for row in rows if row.state == "complete" and row.val_loss is not None and set(grid) <= set(row.cell)]


def lay_out(rows: Sequence[Row], grid: Mapping[str, Sequence[Any]]) -> Layout | None:
    """Lay out the rows that have a final loss; None if there is no numeric axis or no such row."""
    axes, complete = choose_axes(grid), complete_in(rows, grid)
    if axes.x is None or not complete:
        return None
    y, facet = (axes.y, axes.facet) if axes.y is not None else (axes.facet, None)
    xs, ys = grid[axes.x][:MOST_TICKS], (grid[y] if y else [None])[:MOST_TICKS]
    facets = (grid[facet] if facet else [None])[:MOST_MAPS]
    best: dict[tuple[Any, Any, Any], Row] = {}
    for row in sorted(complete, key=_loss):
        best.setdefault((row.cell.get(facet or ""), row.cell.get(y or ""), row.cell[axes.x]), row)
    # Rows can have further axes, which apply only to some of them.
    levels: dict[str, dict[Any, None]] = {}
    for row in complete:
        for name, value in row.cell.items():
            levels.setdefault(name, {})[value] = None
    varied = {**{name: list(each) for name, each in levels.items()}, **grid}
    notes = _notes(varied, axes, [axes.x, *([y] if y else [])], facet)
    if any(place not in best for place in itertools.product(facets, ys, xs)):
        notes.append("A dash: no trial of the cell is complete.")
    return Layout(axes.x, y or "", facet or "", xs, ys, facets, best, notes)


def heat_maps(rows: Sequence[Row], grid: Mapping[str, Sequence[Any]]) -> HeatMaps | None:
    """The maps as images; None as for `lay_out`."""
    layout = lay_out(rows, grid)
    if layout is None:
        return None
    best, worst = layout.extremes
    maps, facet_digits = [], enough_digits(layout.facets)
    for value in layout.facets:
        heading = f"{layout.facet} {value_text(value, facet_digits)}" if layout.facet else "all cells"
        maps.append(HeatMap(heading, _map(layout, value, heading)))
    return HeatMaps(maps, best, worst, layout.notes)


def _notes(grid: Mapping[str, Sequence[Any]], axes: MapAxes, ticked: Sequence[str], facet: str | None) -> list[str]:
    notes = []
    hidden = [name for name, values in grid.items() if len(values) > 1 and name not in axes.shown]
    if hidden:
        notes.append(f"A tile shows the best cell over {', '.join(hidden)}.")
    for name, most in [*((name, MOST_TICKS) for name in ticked), *([(facet, MOST_MAPS)] if facet else [])]:
        if len(grid[name]) > most:
            notes.append(f"Only the first {most} of {len(grid[name])} values of {name} are shown.")
    return notes


def _map(layout: Layout, facet: Any, heading: str) -> Markup:
    (best, worst), parts, xs = layout.extremes, [], layout.xs
    missing = f"no final {layout.metric.short_label}"
    x_digits, y_digits = enough_digits(xs), enough_digits(layout.ys)
    for line, at_y in enumerate(layout.ys):
        top = TOP + line * TILE_H
        if at_y is not None:
            y_text = escape(value_text(at_y, y_digits))
            parts.append(f'<text class="end" x="{LEFT - 6}" y="{top + TILE_H / 2 + 4}">{y_text}</text>')
        for column, at_x in enumerate(xs):
            where = f"{layout.x} {value_text(at_x, x_digits)}"
            where += f", {layout.y} {value_text(at_y, y_digits)}" if layout.y else ""
            row = layout.best.get((facet, at_y, at_x))
            parts.append(_tile(row, LEFT + column * TILE_W, top, f"{heading}, {where}", best, worst, missing))
    bottom = TOP + len(layout.ys) * TILE_H
    for column, at_x in enumerate(xs):
        x_text = escape(value_text(at_x, x_digits))
        parts.append(f'<text class="mid" x="{LEFT + (column + 0.5) * TILE_W}" y="{bottom + 16}">{x_text}</text>')
    width = LEFT + len(xs) * TILE_W + 4
    parts.append(f'<text class="mid" x="{(LEFT + width) / 2}" y="{bottom + 34}">{escape(layout.x)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text class="mid" transform="translate(14 {middle}) rotate(-90)">{escape(layout.y)}</text>')
    return svg(width, bottom + BOTTOM, f"{layout.metric.label}, {heading}", "".join(parts))


def _tile(row: Row | None, left: float, top: float, where: str, best: float, worst: float, missing: str) -> str:
    box = f'x="{left + 1}" y="{top + 1}" width="{TILE_W - 2}" height="{TILE_H - 2}"'
    middle, centre = left + TILE_W / 2, top + TILE_H / 2
    if row is None:
        text = f'<text class="mid" x="{middle}" y="{centre + 4}">–</text>'
        return f'<g><title>{escape(where)}: {escape(missing)}</title><rect class="none" {box}/>{text}</g>'
    loss = _value(row)
    colour = ramp_colour(_share(loss, best, worst))
    ink = text_colour(colour)
    spread = "" if row.interval is None else f"± {loss_text(row.interval, 3)}"
    title = f"{where}: {loss_text(loss, 4)} {spread}".rstrip()
    lines = (
        f'<text class="mid" fill="{ink}" x="{middle}" y="{centre + (-2 if spread else 4)}">{loss_text(loss, 3)}</text>'
    )
    if spread:
        lines += f'<text class="mid small" fill="{ink}" x="{middle}" y="{centre + 13}">{spread}</text>'
    return f'<g><title>{escape(title)}</title><rect fill="{colour}" {box}/>{lines}</g>'


def _share(value: float, best: float, worst: float) -> float:
    """Where a value lies between two others, 0 to 1."""
    scale = unit((best, worst))
    return (value / scale - best / scale) / (worst / scale - best / scale) if best != worst else 0.0


def ramp_colour(share: float) -> str:
    """The colour at a share of the ramp, 0 (best) to 1, interpolated linearly between its anchors."""
    place = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    index = min(int(place), len(RAMP) - 2)
    start, end = _rgb(RAMP[index]), _rgb(RAMP[index + 1])
    mixed = [round(a + (b - a) * (place - index)) for a, b in zip(start, end, strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def text_colour(background: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2.2 relative luminance)."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, background))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2)."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in _rgb(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(row: Row) -> float:
    assert row.val_loss is not None
    return row.val_loss


def _loss(row: Row) -> float:
    return row.metric.loss(_value(row))
