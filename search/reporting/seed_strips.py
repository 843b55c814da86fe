"""All seeds as points: a line for each cell, with its mean and the interval of the mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from search.reporting.chart_range import robust_range
from search.reporting.charts import svg, ticks
from search.statistics.inference import unit
from search.statistics.modes import Modes
from search.statistics.ranking import Row
from search.storage.values import canonical
from search.study.formatting import count_text, loss_text

# Cells that are drawn, and seeds of each.
MOST_CELLS, MOST_SEEDS = 40, 60
WIDTH, RIGHT, ROW, TOP = 680, 14, 18, 6
# Space for the names, in pixels for each character of the longest one.
CHARACTER, LEAST_LABEL, MOST_LABEL = 7.4, 90, 330


@dataclass(frozen=True)
class Strips:
    """The chart, and sentences about it."""

    image: Markup
    notes: Sequence[str]


def seed_strips(
    rows: Sequence[Row],
    label: Callable[[Mapping[str, Any]], str],
    candidates: Collection[str] = (),
    modes: Sequence[Modes] = (),
    x_label: str = "",
) -> Strips | None:
    """The best cells and their seeds; None if no cell has two seeds.

    Args:
        rows: With a rank, the best first.
        label: The name of a cell.
        candidates: The canonical cells that may be the best.
        modes: Cells whose seeds end in two places.
    """
    if not any(len(row.seed_values) > 1 for row in rows):
        return None
    shown = rows[:MOST_CELLS]
    scale = unit(value for row in shown for value in row.seed_values.values())
    values = [value / scale for row in shown for value in row.seed_values.values()]
    (low, high), beyond = robust_range(values)
    names = [label(row.cell) for row in shown]
    left = min(max(CHARACTER * max(map(len, names)) + 16, LEAST_LABEL), MOST_LABEL)

    def x_at(value: float) -> float:
        return left + (WIDTH - RIGHT - left) * (min(max(value / scale, low), high) - low) / (high - low)

    bottom = TOP + ROW * len(shown)
    parts = []
    for tick in ticks(low, high):
        x = x_at(tick * scale)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="mid" x="{x:.1f}" y="{bottom + 15}">{tick * scale:g}</text>')
    parts.append(f'<text class="mid" x="{(left + WIDTH - RIGHT) / 2:.1f}" y="{bottom + 32}">{escape(x_label)}</text>')
    flagged = {canonical(each.cell) for each in modes}
    for at, (row, name) in enumerate(zip(shown, names, strict=True)):
        key = canonical(row.cell)
        mark = " *" if key in flagged else ""
        parts.append(
            _strip(row, name + mark, key in candidates, left, TOP + ROW * (at + 0.5), x_at, int(MOST_LABEL / CHARACTER))
        )
    notes = _notes(rows, shown, beyond, flagged)
    return Strips(svg(WIDTH, bottom + 40, "The value of every seed, by cell", "".join(parts)), notes)


def _notes(rows: Sequence[Row], shown: Sequence[Row], beyond: int, flagged: Collection[str]) -> list[str]:
    notes = []
    if any(canonical(row.cell) in flagged for row in shown):
        notes.append("* The seeds of this cell end in two places, so no trial ends near its mean.")
    if beyond:
        notes.append(f"{count_text(beyond, 'point lies', 'points lie')} outside of the scale, drawn at its edge.")
    if len(rows) > len(shown):
        notes.append(f"{count_text(len(rows) - len(shown), 'more cell')} left out.")
    return notes


def _strip(
    row: Row, name: str, is_candidate: bool, left: float, y: float, x_at: Callable[[float], float], most: int
) -> str:
    weight = " strong" if is_candidate else ""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    parts = [f'<text class="end{weight}" x="{left - 10:.1f}" y="{y + 4:.1f}">{escape(short)}</text>']
    kind = "c0" if is_candidate else "c6"
    mean = row.val_loss
    if mean is not None and row.interval is not None:
        ends = x_at(mean - row.interval), x_at(mean + row.interval)
        parts.append(f'<path class="span {kind}" d="M{ends[0]:.1f} {y:.1f}H{ends[1]:.1f}"/>')
    values = list(row.seed_values.values())[:MOST_SEEDS]
    parts += [f'<circle class="seed {kind}" cx="{x_at(value):.1f}" cy="{y:.1f}" r="3.2"/>' for value in values]
    if mean is not None:
        parts.append(f'<path class="mean" d="M{x_at(mean):.1f} {y - 6:.1f}v12"/>')
    said = f"{name}: {loss_text(mean, 4)}, seeds {', '.join(loss_text(value, 4) for value in values[:12])}"
    return f"<g><title>{escape(said)}</title>{''.join(parts)}</g>"
