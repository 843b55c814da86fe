"""What a notebook shows: a result in a few lines with a picture, and one display of the progress."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from search.reporting.answers_text import best_line, short_answers
from search.reporting.charts import LINE_STYLES, line_chart
from search.reporting.columns import columns
from search.reporting.curves import BEST_LINES
from search.reporting.progress import FAILED, Snapshot, summary_line
from search.reporting.report_data import ReportData, read_report_data
from search.statistics.ranking import Row
from search.storage.database import Database
from search.study.formatting import count_text, describe_cell

# Rows of the table, and of the best trials while a study runs.
MOST_ROWS, MOST_BEST = 10, 5
# The page's colours, inside of this class only.
STYLE = Markup(
    "<style>.lm-search { --ink: #1b1d21; --soft: #596069; --rule: #d9dde2; --raised: #f5f6f8; --c0: #0072b2; "
    "--c1: #d55e00; --c2: #009e73; --c3: #b3588c; --c4: #3a9bd1; --c5: #b87b00; --c6: #50555c; } "
    ".lm-search svg { max-width: 520px; font: 12px system-ui, sans-serif; background: #fff; } "
    '.lm-search svg text { fill: var(--soft); } .lm-search svg text[fill="#000000"] { fill: #000; } '
    '.lm-search svg text[fill="#ffffff"] { fill: #fff; } .lm-search .mid { text-anchor: middle; } '
    ".lm-search .end { text-anchor: end; } .lm-search .small { font-size: 10px; } "
    ".lm-search .grid { stroke: var(--rule); } .lm-search .none { fill: var(--raised); stroke: var(--rule); } "
    ".lm-search .reference { stroke: var(--ink); stroke-dasharray: 2 4; } "
    ".lm-search .line { fill: none; stroke-width: 2; } .lm-search .band { opacity: .2; } "
    + " ".join(
        f".lm-search .line.c{at} {{ stroke: var(--c{at}); }} .lm-search b.c{at} {{ color: var(--c{at}); }} "
        f".lm-search .band.c{at}, .lm-search .dot.c{at} {{ fill: var(--c{at}); }}"
        for at in range(LINE_STYLES)
    )
    + " .lm-search progress { width: 20em; }</style>"
)


def result_as_html(database: Database, names: Sequence[str], title: str) -> str:
    """A finished study in a few lines: the best, the first rows of the table, and a picture.

    Args:
        names: The study, and its sibling with the baselines if there is one.
        title: The first line.
    """
    report_data = read_report_data(database, names, with_trials=True)
    rows = report_data.rows
    parts = [Markup("<p><b>{}</b></p>").format(title), *_answers(report_data), _table(rows[:MOST_ROWS])]
    if len(rows) > MOST_ROWS:
        parts.append(Markup("<p>{}</p>").format(f"{count_text(len(rows) - MOST_ROWS, 'more cell')}: see .report()"))
    return _framed(Markup("").join([*parts, _picture(report_data)]))


def _answers(report_data: ReportData) -> list[Markup]:
    """The best and how sure, the claims, and what to run next."""
    lines = [Markup("<b>Best:</b> {}").format(line) for line in best_line(report_data)]
    lines += [
        Markup("<b>{}</b>: {} {}").format(each.verdict, each.claim, each.sentence)
        for each in short_answers(report_data)
    ]
    lines += [
        Markup("<b>Next:</b> {} <code>{}</code>").format(step.why, step.command) for step in report_data.next_steps()
    ]
    return [Markup("<p>{}</p>").format(Markup("<br>").join(lines))] if lines else []


def _framed(inner: str) -> str:
    return Markup('<div class="lm-search">{}{}</div>').format(STYLE, inner)


def _table(rows: Sequence[Row]) -> Markup:
    cols = columns(rows)
    head = Markup("").join(Markup("<th>{}</th>").format(col.title) for col in cols)
    lines = [Markup("").join(Markup("<td>{}</td>").format(col.text(row)) for col in cols) for row in rows]
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines)
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)


def _picture(report_data: ReportData) -> Markup:
    """The first heat map of a grid, else the learning curves of the best cells; nothing without either."""
    maps = report_data.heat_maps()
    if maps is not None:
        return Markup("<div>{}: {}</div>{}").format(
            f"{report_data.metric.short_label} over the grid", maps.maps[0].heading, maps.maps[0].image
        )
    lines = report_data.drawn.curves(report_data.ranked[:BEST_LINES])
    if not any(len(line.points) > 1 for line in lines):
        return Markup("")
    image = line_chart(lines, "Learning curves of the best cells", "step", report_data.metric_title)
    legend = Markup(" ").join(
        Markup('<b class="c{}">{}</b>').format(at % LINE_STYLES, line.label) for at, line in enumerate(lines)
    )
    return Markup("{}<div>{}</div>").format(image, legend)


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookDisplay:
    """One display that is updated: a bar, the best trials, and what failed last.

    Args:
        name: The study's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._handle: Any = None
        self._shown = ""

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Update it if anything is new."""
        text = summary_line(snapshot, workers)
        most = MOST_BEST if snapshot.n_front is None else min(MOST_BEST, snapshot.n_front)
        best = [f"{snapshot.value_text(each)}  {describe_cell(each.shown_cell)}" for each in snapshot.ranked[:most]]
        failed = [each for each in snapshot.ended if each.state in FAILED][-1:]
        lines = [text, *best, *(f"last {each.state}: {each.reason or ''}" for each in failed)]
        html = _framed(
            Markup('<div><b>{}</b> <progress max="{}" value="{}"></progress> {}</div>').format(
                self._name, max(1, snapshot.total), snapshot.done, text
            )
            + Markup("").join(Markup("<div>{}</div>").format(line) for line in lines[1:])
        )
        if html == self._shown:
            return
        self._shown = html
        data = {"text/html": html, "text/plain": "\n".join([f"{self._name}: {text}", *lines[1:]])}
        if self._handle is None:
            from IPython import display

            show: Any = display.display
            self._handle = show(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
