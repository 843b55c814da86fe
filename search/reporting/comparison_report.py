"""Two studies compared, in each format of a report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from search.errors import UsageError
from search.reporting.comparison_text import INTERVALS, caution, cells_text, equal_text, headings, lines, mean_text
from search.reporting.difference_text import shown_pair
from search.reporting.escapes import csv_value, markdown_text
from search.reporting.latex import escaped
from search.reporting.tables import finite
from search.statistics.compared_cells import CellComparison
from search.statistics.compared_studies import read_compared_study, study_differences
from search.statistics.study_comparison import StudyComparison, compare_studies
from search.storage.url import display_url
from search.study.differences import Difference
from search.study.formatting import count_text
from search.study.lookup import open_studies


@dataclass(frozen=True)
class ComparisonReport:
    """Two studies compared, and what differs between them.

    Attributes:
        results: Their results.
        differences: What differs in settings, code, versions and machine.
    """

    results: StudyComparison
    differences: Sequence[Difference]

    def report(self, format: str = "markdown", top: int | None = None) -> str:
        """The comparison, as `search.report` prints it.

        Args:
            format: "markdown", "csv", "json", "latex" or "html".
            top: Only the best cells; None for all.

        Raises:
            KeyError: The format is unknown.
        """
        return _FORMATS[format](self, self.results.cells[:top])

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON."""
        facts = asdict(self.results)
        del facts["comparison"], facts["digits"]
        return {**facts, "differences": [asdict(each) for each in self.differences]}

    def __repr__(self) -> str:
        results = self.results
        return f"ComparisonReport({results.first}, {results.second}: {results.verdict}; {cells_text(results)})"


def read_comparison(
    first: tuple[str, str], second: tuple[str, str], wait_s: float, *, baselines: bool
) -> ComparisonReport:
    """Read and compare two studies.

    Args:
        first, second: A study by its name or study file, and the URL of its database.
        baselines: Whether to include their baselines.

    Raises:
        UsageError: A study does not exist, or they cannot be compared.
        StorageError: A database cannot be opened.
    """
    found = []
    for study, storage in (first, second):
        database, names = open_studies(study, storage, wait_s, baselines=baselines, of_optuna=True)
        with database.closing():
            found.append(read_compared_study(database, names, names[0]))
    if found[0].label == found[1].label:
        if first[1] == second[1]:
            raise UsageError(
                f"--study {found[0].label} is given twice; give two studies, or NAME@URL for one of another database"
            )
        found = [
            replace(each, label=f"{each.label} in {display_url(place[1])}")
            for each, place in zip(found, (first, second), strict=True)
        ]
    return ComparisonReport(compare_studies(*found), study_differences(*found))


def _as_markdown(report: ComparisonReport, shown: Sequence[CellComparison]) -> str:
    results = report.results
    metric = results.metric
    facts = [
        f"metric: {markdown_text(metric.name)}, {metric.better} is better",
        markdown_text(cells_text(results)),
        *filter(None, [equal_text(results)]),
        *([markdown_text(mean_text(results))] if results.difference is not None else []),
        *([f"note: {markdown_text(note)}"] if (note := caution(report.differences)) else []),
    ]
    left = len(results.cells) - len(shown)
    table = _markdown_table(headings(results), lines(results, shown), "lrrrrrll")
    return "\n".join(
        [
            f"# {markdown_text(results.first)} and {markdown_text(results.second)}",
            "",
            f"**{markdown_text(results.verdict)}.** {markdown_text(results.sentence)}",
            "",
            *(f"- {each}" for each in facts),
            "",
            *table,
            "",
            *([f"{count_text(left, 'more cell')}.", ""] if left else []),
            INTERVALS,
            "",
            "## What differs",
            "",
            *_differences(report),
        ]
    )


def _differences(report: ComparisonReport) -> list[str]:
    if not report.differences:
        return ["Nothing that is recorded."]
    columns = ["group", "name", report.results.first, report.results.second]
    return _markdown_table(columns, [[each.group, each.name, *shown_pair(each, 200)] for each in report.differences])


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], sides: str = "") -> list[str]:
    """Lines of a table with aligned columns, so that it is also readable as plain text."""
    sides = sides or "l" * len(titles)
    body = [[markdown_text(text) for text in row] for row in (titles, *rows)]
    widths = [max(4, *map(len, column)) for column in zip(*body, strict=True)]
    rule = ["-" * (width - 1) + ":" if side == "r" else "-" * width for width, side in zip(widths, sides, strict=True)]
    padded = [
        [
            text.rjust(width) if side == "r" else text.ljust(width)
            for text, width, side in zip(row, widths, sides, strict=True)
        ]
        for row in body
    ]
    return ["| " + " | ".join(row) + " |" for row in (padded[0], rule, *padded[1:])]


def _as_csv(report: ComparisonReport, shown: Sequence[CellComparison]) -> str:
    axes = list({axis: None for each in report.results.cells for axis in each.cell})
    names = ("value", "interval", "seeds", "state")
    header = [
        *axes,
        *(f"{which}_{name}" for which in ("first", "second") for name in names),
        *("difference", "low", "high", "verdict"),
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_value(title) for title in header)
    for each in shown:
        found: list[Any] = [each.cell.get(axis) for axis in axes]
        for result in (each.first, each.second):
            found += [result.value, result.reach, result.seeds, result.state]
        found += [each.difference, each.low, each.high, each.verdict]
        writer.writerow(csv_value(value) for value in found)
    return text.getvalue().rstrip("\n")


def _as_json(report: ComparisonReport, shown: Sequence[CellComparison]) -> str:
    return json.dumps(
        finite({**report.as_dict(), "cells": [asdict(each) for each in shown]}), indent=2, ensure_ascii=False
    )


def _as_latex(report: ComparisonReport, shown: Sequence[CellComparison]) -> str:
    results = report.results
    caption = (
        f"{results.first} and {results.second}, {results.metric.label} by cell: {results.verdict}. "
        f"{cells_text(results)[:1].upper()}{cells_text(results)[1:]}. {mean_text(results)}. {INTERVALS}"
    )
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escaped(caption)}}}",
            r"  \begin{tabular}{lrrrrrll}",
            r"    \toprule",
            *(f"    {' & '.join(map(escaped, row))} \\\\" for row in [headings(results)]),
            r"    \midrule",
            *(f"    {' & '.join(map(escaped, row))} \\\\" for row in lines(results, shown)),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _as_html(report: ComparisonReport, shown: Sequence[CellComparison]) -> str:
    from search.reporting.comparison_page import as_html  # imports jinja2

    return as_html(report, shown)


_FORMATS = {"markdown": _as_markdown, "csv": _as_csv, "json": _as_json, "latex": _as_latex, "html": _as_html}
