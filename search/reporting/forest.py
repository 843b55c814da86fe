"""Forest plots: a difference in each setting with its interval, and what it is on average."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from search.reporting.charts import svg, ticks
from search.statistics.comparison import BETTER_DIVERGED, BOTH_DIVERGED, PRUNED, UNFINISHED, WORSE_DIVERGED, Comparison
from search.statistics.inference import unit

WIDTH, LABEL, RIGHT, ROW, HEAD = 620, 250, 12, 20, 24
CHARACTER = 7.0  # pixels
# Settings that are drawn; a study can have thousands.
MOST_SETTINGS = 40
# Characters of a setting, in the space for it.
MOST_CHARACTERS = 40
_OUTCOMES = {
    PRUNED: "pruned",
    UNFINISHED: "not finished",
    BETTER_DIVERGED: "diverged: {better}",
    WORSE_DIVERGED: "diverged: {worse}",
    BOTH_DIVERGED: "both diverged",
}


@dataclass(frozen=True)
class _Line:
    """A line of the plot; without a middle it has a note instead."""

    label: str
    middle: float | None
    low: float | None
    high: float | None
    note: str = ""
    is_summary: bool = False


def forest_plot(comparison: Comparison, names: tuple[str, str], settings: Sequence[str]) -> tuple[Markup, str]:
    """The plot, and a sentence about what is left out of it.

    Args:
        names: The better and the worse level.
        settings: What the settings are called, in their order.
    """
    shown = sorted(
        range(len(comparison.settings)), key=lambda at: -(comparison.settings[at].mean or -math.inf)
    )[:MOST_SETTINGS]  # fmt: skip
    lines = [_setting_line(comparison, at, names, settings[at]) for at in shown]
    if len(comparison.compared) > 1:
        lines.append(_Line("mean of these settings", comparison.mean, comparison.low, comparison.high, is_summary=True))
    if comparison.general is not None:
        low, high = comparison.general
        lines.append(_Line("in settings like these", comparison.mean, low, high, is_summary=True))
    left = len(comparison.settings) - len(shown)
    return _draw(lines, names), f"{left} more settings are left out." if left else ""


def _setting_line(comparison: Comparison, at: int, names: tuple[str, str], label: str) -> _Line:
    each = comparison.settings[at]
    note = _OUTCOMES.get(each.state, "").format(better=names[0], worse=names[1]) if each.mean is None else ""
    return _Line(label, each.mean, each.low, each.high, note)


def _draw(lines: Sequence[_Line], names: tuple[str, str]) -> Markup:
    scale = unit(value for line in lines for value in (line.middle, line.low, line.high) if value is not None)
    low, high = _range(lines, scale)
    height = HEAD + ROW * len(lines) + 34

    def x_at(value: float) -> float:
        place = min(max(value / scale, low), high)
        return LABEL + (WIDTH - RIGHT - LABEL) * (place - low) / (high - low)

    bottom = HEAD + ROW * len(lines)
    parts = []
    for tick in ticks(low, high):
        x = x_at(tick * scale)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD}" y2="{bottom}"/>')
        parts.append(f'<text class="mid" x="{x:.1f}" y="{bottom + 16}">{tick * scale:g}</text>')
    zero = x_at(0.0)
    parts.append(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{HEAD}" y2="{bottom}"/>')
    better, worse = (int(space / CHARACTER) for space in (WIDTH - zero - 70, zero - 20))
    parts.append(f'<text x="{zero + 6:.1f}" y="14">{escape(_short(names[0], max(better, 4)))} better →</text>')
    if zero - LABEL > 30:
        parts.append(f'<text class="end" x="{zero - 6:.1f}" y="14">← {escape(_short(names[1], max(worse, 4)))}</text>')
    parts += [_row(line, HEAD + ROW * (at + 0.5), x_at, (low * scale, high * scale)) for at, line in enumerate(lines)]
    title = f"By how much {names[0]} is better than {names[1]}, by setting"
    return svg(WIDTH, height, title, "".join(parts))


def _range(lines: Sequence[_Line], scale: float) -> tuple[float, float]:
    """From below 0 to above it, with all means; an interval that is far wider than the others is cut."""
    middles = [line.middle / scale for line in lines if line.middle is not None]
    ends = [end / scale for line in lines for end in (line.low, line.high) if end is not None]
    usual = statistics.median(map(abs, ends)) if ends else 0.0
    reach = max([usual, *map(abs, middles)]) or 1.0
    low = max(min([0.0, *middles, *ends]), -4 * reach)
    high = min(max([0.0, *middles, *ends]), 4 * reach)
    margin = 0.04 * (high - low or 1.0)
    return low - margin, high + margin


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _row(line: _Line, y: float, x_at: Callable[[float], float], ends: tuple[float, float]) -> str:
    weight = " strong" if line.is_summary else ""
    name = escape(_short(line.label, MOST_CHARACTERS))
    parts = [f'<text class="end{weight}" x="{LABEL - 10}" y="{y + 4:.1f}">{name}</text>']
    if line.middle is None:
        return "".join([*parts, f'<text class="note" x="{LABEL + 6}" y="{y + 4:.1f}">{escape(line.note)}</text>'])
    sure = line.low is not None and line.high is not None and (line.low > 0 or line.high < 0)
    kind = ("ahead" if line.middle > 0 else "behind") if sure else "open"
    said = f"{line.middle:.4g}"
    if line.low is not None and line.high is not None:
        said += f" [{line.low:.4g}, {line.high:.4g}]"
        parts.append(f'<path class="whisker {kind}" d="M{x_at(line.low):.1f} {y:.1f}H{x_at(line.high):.1f}"/>')
        parts += [
            f'<path class="whisker {kind}" d="M{x_at(end) + 4 * side:.1f} {y - 4:.1f}l{-4 * side} 4l{4 * side} 4"/>'
            for end, side, cut in ((line.low, 1, line.low < ends[0]), (line.high, -1, line.high > ends[1]))
            if cut
        ]
    x = x_at(line.middle)
    shape = f"M{x - 6:.1f} {y:.1f}l6 -5l6 5l-6 5z" if line.is_summary else f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7z"
    parts.append(f'<path class="mark {kind}" d="{shape}"/>')
    return f"<g><title>{escape(line.label)}: {said}</title>{''.join(parts)}</g>"
