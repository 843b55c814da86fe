"""The analyses of a study as Markdown, and as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.reporting.escapes import markdown_text

if TYPE_CHECKING:
    from search.statistics.analysis import AnalysisResult, Table


def analyses_as_markdown(results: Sequence[AnalysisResult]) -> str:
    """The answers as sections; "" without any."""
    return "\n".join(_section(each) for each in results)


def analyses_as_dict(results: Sequence[AnalysisResult]) -> dict[str, Any]:
    """The answers for JSON; empty without any."""
    return {"analyses": [each.as_dict() for each in results]} if results else {}


def analyses_for_page(results: Sequence[AnalysisResult]) -> list[dict[str, Any]]:
    """The answers with their charts drawn."""
    from search.reporting.analysis_chart import analysis_chart, legend_of

    return [
        {
            "result": each,
            "charts": [
                {
                    "title": chart.title,
                    "image": analysis_chart(chart),
                    "legend": legend_of(chart),
                    "note": chart.note,
                }
                for chart in each.charts
            ],
        }
        for each in results
    ]


def _section(each: AnalysisResult) -> str:
    lines = [f"## {markdown_text(each.question)}", "", f"**{markdown_text(each.verdict)}**", ""]
    lines += [markdown_text(" ".join(each.sentences)), ""] if each.sentences else []
    for table in each.tables:
        lines += [f"### {markdown_text(table.title)}", "", *_table(table), ""]
    lines += [*(f"- note: {markdown_text(warning)}" for warning in each.warnings), ""] if each.warnings else []
    return "\n".join(lines)


def _table(table: Table) -> list[str]:
    head = [markdown_text(title) for title in table.columns]
    rows = [[markdown_text(text) for text in row] for row in table.rows]
    return [_line(head), _line(["---:"] * len(head)), *map(_line, rows)]


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
