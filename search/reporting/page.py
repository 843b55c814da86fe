"""The report as one self-contained HTML page: nothing from outside, images as inline SVG, one script of its own."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.hints import command_of
from search.reporting.analyses_text import analyses_for_page
from search.reporting.answers_text import best_words
from search.reporting.charts import LINE_STYLES, Line, beyond_note, line_chart, timeline
from search.reporting.columns import Column, further_names
from search.reporting.confirmation_text import columns, sentences, texts_of
from search.reporting.cost_text import cost_sentences, cost_tables
from search.reporting.curves import BEST_LINES
from search.reporting.failure_text import MOST_SHOWN, failure_groups, failure_title, group_lines
from search.reporting.heatmaps import RAMP
from search.reporting.next_steps import study_argument
from search.reporting.page_answers import claim_answers, fixed_settings
from search.reporting.page_table import page_table
from search.reporting.page_words import amount, duration, loss, signed, summary, values_are
from search.reporting.plain_answers import percent
from search.reporting.report_data import ReportData
from search.reporting.search_charts import search_charts
from search.reporting.seed_strips import Strips, seed_strips
from search.reporting.verdict_text import largest_difference
from search.statistics.analyses import analyse
from search.statistics.ranking import Row
from search.storage.values import canonical

TEMPLATE, STYLE, SCRIPT = "page.html.jinja", "page.css.jinja", "page.js.jinja"
MOST_METRICS = 8  # of those that have a chart of their own, besides the first
MOST_ROWS = 200  # of the comparisons, and of the table unless --top sets another number
MOST_CANDIDATES = 12
OUTCOMES = {"complete": "trained to the end", "pruned": "pruned", "diverged": "diverged", "failed": "failed"}


def as_html(report_data: ReportData, top: int | None = None, cols: Sequence[Column] | None = None) -> str:
    """The page.

    Args:
        top: The number of rows of the table; None for the best 200.
        cols: The columns of the table; None for those of a page.
    """
    loader = PackageLoader("search.reporting", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        loss=loss,
        amount=amount,
        duration=duration,
        signed=signed,
        quote=shlex.quote,
        command_of=command_of,
        percent=percent,
    )
    script = environment.get_template(SCRIPT).render()
    # The page allows this script and no other one.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = environment.get_template(STYLE).render(ramp=", ".join(RAMP))
    view = _view(report_data, top, cols)
    return environment.get_template(TEMPLATE).render(
        **view, script=Markup(script), script_hash=digest, style=Markup(style)
    )


def _view(report_data: ReportData, top: int | None, cols: Sequence[Column] | None) -> dict[str, Any]:
    leaders = report_data.leaders()
    rows = report_data.rows[: MOST_ROWS if top is None else top]
    return {
        "report_data": report_data,
        **_metric_words(report_data),
        **_answers(report_data),
        **_record(report_data),
        "summary": summary(report_data),
        "table": page_table(report_data, rows, cols),
        "hidden": len(report_data.rows) - len(rows),
        "has_published": any(row.published is not None for row in rows),
        "has_seeds": any(row.trials[1] > 1 for row in rows),
        "confirmation": _confirmation(report_data),
        "analyses": analyses_for_page(analyse(report_data.stored, report_data.rows)),
        "strips": _strips(report_data),
        "search_charts": search_charts(report_data),
        "heat_maps": report_data.heat_maps(),
        "charts": _curves(report_data, leaders),
        "positions": _chart(
            report_data,
            report_data.drawn.by_position(leaders),
            "Loss by position in the context window",
            f"position, {report_data.stored.text_unit.name}s",
        ),
        "generated_texts": report_data.drawn.generated_texts(leaders),
        **_cost(report_data),
        "most_comparisons": MOST_ROWS,
        "most_candidates": MOST_CANDIDATES,
    }


def _answers(report_data: ReportData) -> dict[str, Any]:
    """What is above the fold, and the comparisons."""
    verdicts = report_data.verdicts
    compared = [] if verdicts is None else [each.comparisons[0] for each in verdicts.comparisons]
    return {
        "best": best_words(report_data),
        "answers": claim_answers(report_data),
        "fixed": fixed_settings(report_data),
        "next_steps": report_data.next_steps(),
        "largest": largest_difference(compared) if compared else 0.0,
        "remarks": report_data.remarks,
    }


def _record(report_data: ReportData) -> dict[str, Any]:
    """How the trials ran and ended, and how to run them again."""
    bars = report_data.bars()
    groups = failure_groups(report_data.failed)
    return {
        "timeline": timeline(bars, "When each trial ran, and how it ended") if bars else None,
        "failures_left_out": max(0, len(groups) - MOST_SHOWN),
        "outcomes": [(name, words) for name, words in OUTCOMES.items() if any(bar.outcome == name for bar in bars)],
        "environments": report_data.environments(),
        "failures": [{"title": failure_title(group[0]), "lines": group_lines(group)} for group in groups[:MOST_SHOWN]],
        "study_argument": "" if report_data.stored.is_made_by_optuna else study_argument(report_data.stored),
    }


def _cost(report_data: ReportData) -> dict[str, Any]:
    """What the study has cost."""
    cost = report_data.cost
    if cost is None:
        return {"cost_sentences": [], "cost_tables": []}
    return {"cost_sentences": cost_sentences(cost), "cost_tables": cost_tables(cost)}


def _strips(report_data: ReportData) -> Strips | None:
    verdicts = report_data.verdicts
    return seed_strips(
        report_data.ranked,
        report_data.label,
        set() if verdicts is None else {canonical(each.cell) for each in verdicts.candidates},
        () if verdicts is None else verdicts.modes,
        report_data.metric_title,
    )


def _confirmation(report_data: ReportData) -> dict[str, Any] | None:
    """The sentences and the table of the confirmation."""
    result = report_data.confirmation
    if result is None:
        return None
    return {
        "sentences": sentences(result, report_data.digits),
        "titles": [title for title, _ in columns(result)],
        "rows": [(report_data.label(each.cell), texts_of(result, each)) for each in result.cells],
    }


def _metric_words(report_data: ReportData) -> dict[str, Any]:
    """What the page calls the values."""
    return {
        "metric": report_data.metric,
        "metric_heading": report_data.metric.label.replace("validation", "Validation"),
        "metrics": report_data.stored.definition.metrics,
        "text_unit": report_data.stored.text_unit,
        "is_language_model": report_data.stored.corpus is not None,
        "values_are": values_are(report_data),
    }


def _curves(report_data: ReportData, leaders: Sequence[Row]) -> list[dict[str, Any]]:
    """Learning curves of the metric, and of each other one."""
    best = report_data.ranked[:BEST_LINES]
    of_best, below = f"the best {len(best)} cells", "training steps"
    found = [
        _chart(report_data, report_data.drawn.curves(leaders), "Learning curves: the best of each kind", below),
        _chart(report_data, report_data.drawn.curves(best), f"Learning curves: {of_best}", below),
    ]
    for name in further_names(best)[:MOST_METRICS]:
        lines = report_data.drawn.metric_curves(best, name)
        found.append(_chart(report_data, lines, f"{name}: {of_best}", below, name))
    return [chart for chart in found if chart is not None]


def _chart(
    report_data: ReportData, lines: Sequence[Line], title: str, x_label: str, y_label: str | None = None
) -> dict[str, Any] | None:
    if not lines:
        return None
    baseline = report_data.bigram_baseline if y_label is None else None
    image = line_chart(lines, title, x_label, y_label or report_data.metric_title, baseline)
    legend = [(index % LINE_STYLES, line.label) for index, line in enumerate(lines)]
    return {"title": title, "image": image, "legend": legend, "note": beyond_note(lines)}
