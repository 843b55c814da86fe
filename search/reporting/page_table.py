"""The ranked table of the page: its columns, what all rows share, and what can be filtered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.reporting.columns import Column, all_columns
from search.reporting.report_data import ReportData
from search.statistics.ranking import Row
from search.study.formatting import difference_text, largest_size, loss_text

# Columns that a narrow screen shows first, besides the axes.
_FIRST = ("rank", "interval", "state", "front")
# Columns that say nothing where all rows have one value.
_NEVER = ("step", "feasible", "lowest", "highest")
# The loss in other units, which the page says of the best cell anyway: left out of a table that is full without them.
_SPARE, MOST_COLUMNS = ("perplexity", "bits"), 14
# Filters, and choices of each.
MOST_FILTERS, MOST_CHOICES = 6, 20
DIGITS = 4
_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_AGREES = {True: "agrees", False: "differs", None: ""}


@dataclass(frozen=True)
class PageTable:
    """A table as the page shows it.

    Attributes:
        columns: Its columns.
        first: Of each column whether a narrow screen shows it.
        same: Values that all rows share, as "name value".
        filters: Axes with the texts of their values.
        rows: Of each row the texts of its columns, and the numbers to sort by; "" for none.
    """

    columns: Sequence[Column]
    first: Sequence[bool]
    same: Sequence[str]
    filters: Sequence[tuple[str, Sequence[str]]]
    rows: Sequence[tuple[Row, Sequence[tuple[str, str]]]]


def page_table(report_data: ReportData, rows: Sequence[Row], chosen: Sequence[Column] | None) -> PageTable:
    """The table.

    Args:
        rows: Those that are shown.
        chosen: The columns that were asked for; None for those with something to say.
    """
    axes = {name for row in rows for name in row.cell}
    every = all_columns(rows) if rows else []
    # The page says in the same column whether a published loss agrees.
    every = [each for each in every if each.title != "as published"]
    columns = (
        list(chosen) if chosen is not None else _ordered(report_data, [each for each in every if each.is_shown], axes)
    )
    same = [] if chosen is not None else _same(rows, [each for each in every if not each.is_shown])
    if chosen is None and len(rows) > 1:
        constant = [
            each for each in columns if each.name in ("state", "seeds") and len({each.text(row) for row in rows}) == 1
        ]
        same += [f"{each.title} {each.text(rows[0])}" for each in constant]
        columns = [each for each in columns if each not in constant]
    if chosen is None:
        for name in _SPARE:
            if len(columns) > MOST_COLUMNS:
                columns = [each for each in columns if each.name != name]
    metric = report_data.metric.name
    first = [each.name in (*_FIRST, *axes, metric) or chosen is not None for each in columns]
    short = _text if chosen is None else lambda column, row: column.text(row)
    texts = [(row, [(short(column, row), _number(column, row)) for column in columns]) for row in rows]
    return PageTable(columns, first, same, _filters(rows, columns, axes), texts)


def _ordered(report_data: ReportData, columns: Sequence[Column], axes: set[str]) -> list[Column]:
    """Rank, axes and the metric first; then what else there is."""
    of_axes = [each for each in columns if each.title in axes]
    ahead = [
        "rank",
        report_data.metric.name,
        "interval",
        "bits",
        "perplexity",
        *(each.name for each in report_data.stored.definition.metrics[1:]),
        "front",
        "seeds",
    ]
    by_name = {each.name: each for each in columns if each not in of_axes}
    leading = [by_name[name] for name in ahead if name in by_name]
    others = [each for each in columns if each not in of_axes and each not in leading]
    found = [*leading[:1], *of_axes, *leading[1:]]
    if report_data.bigram_baseline is not None:
        largest = largest_size(map(report_data.minus_baseline, report_data.rows))
        found.append(
            Column(
                "minus bigram baseline",
                report_data.minus_baseline,
                lambda row: difference_text(report_data.minus_baseline(row), DIGITS, largest),
            )
        )
    return [*found, *others]


def _same(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """The values of columns that are left out because they are equal in all rows."""
    texts = [(column.title, {column.text(row) for row in rows}) for column in columns if column.name not in _NEVER]
    return [f"{title} {only}" for title, found in texts if len(found) == 1 and (only := next(iter(found)))]


def _filters(rows: Sequence[Row], columns: Sequence[Column], axes: set[str]) -> list[tuple[str, Sequence[str]]]:
    found: list[tuple[str, Sequence[str]]] = []
    for column in columns:
        if column.title in axes or column.name == "state":
            values = {column.text(row): column.value(row) for row in rows if column.text(row)}
            if 1 < len(values) <= MOST_CHOICES:
                found.append((column.title, sorted(values, key=lambda text: _order(values[text], text))))
    return found[:MOST_FILTERS]


def _order(value: Any, text: str) -> tuple[bool, float, str]:
    is_number = isinstance(value, (int, float))
    return not is_number, float(value) if is_number and math.isfinite(value) else 0.0, text


def _text(column: Column, row: Row) -> str:
    """A value in little space: four decimal places, and sizes as 20.5 M."""
    value, text = column.value(row), column.text(row)
    if column.title == "difference" and text:
        return f"{difference_text(value, DIGITS)} {_AGREES[row.published_agrees]}".rstrip()
    if isinstance(value, int) and not isinstance(value, bool) and column.title in ("parameters", "tokens"):
        return next((f"{value / size:.3g} {unit}" for size, unit in _SIZES if value >= size), text)
    return loss_text(value, DIGITS) if isinstance(value, float) and text == loss_text(value) else text


def _number(column: Column, row: Row) -> str:
    value = column.value(row)
    is_number = column.is_number and isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value!r}" if is_number and math.isfinite(value) else ""
