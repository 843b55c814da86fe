"""What the charts of a search show: cells by pairs of objectives, and the values of trials over time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from search.statistics.ranking import Row
from search.study.metrics import Metric

# All pairs of four objectives.
MOST_PAIRS = 6
MIN_DOTS = 3
# Dots of a chart; more of them hide each other and make the file large.
MOST_DOTS = 600

Kind = Literal["front", "other", "infeasible"]
KINDS: Mapping[Kind, str] = {
    "front": "on the Pareto front",
    "other": "other cells",
    "infeasible": "infeasible: violates a constraint",
}


@dataclass(frozen=True)
class SearchChart:
    """A chart.

    Attributes:
        panels: Its images, each with a heading of its own; "" for a single one.
        legend: The class of each kind of dot, and what it is.
        note: A sentence below it.
        is_wide: Whether it needs the whole width.
    """

    title: str
    panels: Sequence[tuple[str, Markup]]
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""
    is_wide: bool = False


@dataclass(frozen=True)
class CellDot:
    """A complete cell by two objectives."""

    x: float
    y: float
    row: Row
    kind: Kind


@dataclass(frozen=True)
class Pair:
    """Two objectives, and the complete cells that have both."""

    x: Metric
    y: Metric
    dots: Sequence[CellDot]

    @property
    def title(self) -> str:
        """What is drawn against what."""
        return f"{self.y.name} against {self.x.name}"


def objective_pairs(rows: Sequence[Row], metrics: Sequence[Metric]) -> tuple[list[Pair], int]:
    """The cells by each pair of objectives.

    Returns:
        The first `MOST_PAIRS` pairs that have cells, and how many pairs are left out.
    """
    every = list(itertools.combinations(range(len(metrics)), 2))
    pairs = [Pair(metrics[x], metrics[y], _dots(rows, x, y)) for x, y in every]
    return [pair for pair in pairs[:MOST_PAIRS] if pair.dots], max(0, len(every) - MOST_PAIRS)


def _dots(rows: Sequence[Row], x: int, y: int) -> list[CellDot]:
    found = []
    for row in rows:
        if row.state == "complete":
            at = row.values[x], row.values[y]
            if at[0] is not None and at[1] is not None and math.isfinite(at[0]) and math.isfinite(at[1]):
                found.append(CellDot(at[0], at[1], row, _kind(row)))
    return found


def _kind(row: Row) -> Kind:
    if not row.is_feasible:
        return "infeasible"
    return "front" if row.on_front else "other"


@dataclass(frozen=True)
class EndedTrial:
    """A complete trial; `at` counts them from 1, in the order of their ends."""

    at: int
    value: float
    cell: Mapping[str, Any]
    is_feasible: bool


def best_so_far(
    ended: Iterable[tuple[float, Mapping[str, Any], bool]], metric: Metric
) -> tuple[list[EndedTrial], list[tuple[int, float]]]:
    """Complete trials, and where the best feasible value so far begins.

    Args:
        ended: The value, the cell, and whether it is feasible, of each complete trial in the order of their ends.

    Returns:
        The trials, and the places and values at which the best one changes.
    """
    trials = [EndedTrial(at, *each) for at, each in enumerate(ended, start=1)]
    best: list[tuple[int, float]] = []
    for trial in trials:
        if trial.is_feasible and (not best or metric.loss(trial.value) < metric.loss(best[-1][1])):
            best.append((trial.at, trial.value))
    return trials, best
