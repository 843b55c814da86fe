"""Two studies compared, as one self-contained HTML page without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.reporting.comparison_text import (
    INTERVALS,
    ONLY_CELL,
    caution,
    cells_text,
    equal_text,
    headings,
    lines,
    mean_text,
)
from search.reporting.difference_text import shown_pair
from search.reporting.forest import forest_plot
from search.reporting.heatmaps import RAMP
from search.statistics.compared_cells import CellComparison
from search.study.formatting import describe_cell

if TYPE_CHECKING:
    from search.reporting.comparison_report import ComparisonReport

TEMPLATE, STYLE = "comparison.html.jinja", "page.css.jinja"
# The columns of numbers, which are aligned to the right.
NUMBERS = (1, 2, 3, 4, 5)
MOST_CHARACTERS = 400


def as_html(report: ComparisonReport, shown: Sequence[CellComparison]) -> str:
    """The page.

    Args:
        shown: The cells of the table.
    """
    loader = PackageLoader("search.reporting", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    results = report.results
    style = environment.get_template(STYLE).render(ramp=", ".join(RAMP))
    comparison = results.comparison
    settings = [describe_cell(each.rest, results.digits) or ONLY_CELL for each in comparison.settings]
    chart, left_out = forest_plot(comparison, (str(comparison.better), str(comparison.worse)), settings)
    return environment.get_template(TEMPLATE).render(
        results=results,
        style=Markup(style),
        chart=chart,
        left_out=left_out,
        cells=cells_text(results),
        equal=equal_text(results),
        mean=mean_text(results),
        caution=caution(report.differences),
        headings=headings(results),
        lines=lines(results, shown),
        numbers=NUMBERS,
        left=len(results.cells) - len(shown),
        intervals=INTERVALS,
        differences=[(each, shown_pair(each, MOST_CHARACTERS)) for each in report.differences],
    )
