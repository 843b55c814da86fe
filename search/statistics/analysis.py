"""What every analysis of a study gives: an answer in words, tables, charts, and numbers for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Series:
    """Points or a line of a chart.

    Attributes:
        label: For the legend; "" leaves it out.
        x, y: The places.
        low, high: Ends of vertical bars, of as many points; empty for none.
        left, right: Ends of horizontal bars; empty for none.
        is_line: Whether it is a line, without marks.
        is_ring: Whether its marks are rings around something.
        style: The number of its colour; series of one style belong together.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    left: Sequence[float] = ()
    right: Sequence[float] = ()
    is_line: bool = False
    is_ring: bool = False
    style: int = 0


@dataclass(frozen=True)
class Chart:
    """A chart with a logarithmic x axis.

    Attributes:
        title: What it shows.
        x_label, y_label: The axes.
        series: Points and lines, drawn in this order.
        log_y: Whether the y axis is logarithmic, too.
        note: A sentence below it.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_y: bool = False
    note: str = ""


@dataclass(frozen=True)
class AnalysisResult:
    """The answer to one analysis of a study file.

    Attributes:
        kind: As the study file calls it.
        question: In words.
        verdict: The answer in a few words.
        sentences: The answer with its figures.
        tables, charts: What it rests on.
        warnings: What the data cannot tell.
        facts: For JSON.
    """

    kind: str
    question: str
    verdict: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    warnings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The answer for JSON."""
        words = {"kind": self.kind, "question": self.question, "verdict": self.verdict}
        return {**words, "sentences": list(self.sentences), "warnings": list(self.warnings), **self.facts}


def not_answerable(kind: str, question: str, why: str) -> AnalysisResult:
    """An analysis that the results do not allow."""
    return AnalysisResult(kind, question, "not answerable", [why])
