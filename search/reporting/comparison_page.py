"""Two studies compared, as one self-contained HTML page without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.reporting.comparison_text import INTERVALS, caution, cells_text, equal_text, headings, lines, mean_text
from search.reporting.difference_text import shown_pair
from search.statistics.compared_cells import CellComparison

if TYPE_CHECKING:
    from search.reporting.comparison_report import ComparisonReport

TEMPLATE = "comparison.html.jinja"
# The columns of numbers, which are aligned to the right.
NUMBERS = (1, 2, 3, 4, 5)
MOST_CHARACTERS = 400
STYLE = """
:root { --paper: #ffffff; --ink: #1b1d21; --soft: #596069; --rule: #d9dde2; --raised: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e8eaed; --soft: #a5adb7; --rule: #363b43; --raised: #20242a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
p { max-width: 52rem; margin: .35rem 0; } .soft { color: var(--soft); }
.winner { font-size: 1.3rem; font-weight: 700; line-height: 1.25; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .4rem; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap;
  vertical-align: top; }
th { font-weight: 600; background: var(--raised); } .n { text-align: right; }
td.say { white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; } .scroll { overflow: visible; } table { font-size: 7pt; }
}
"""


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
    return environment.get_template(TEMPLATE).render(
        results=results,
        style=Markup(STYLE),
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
