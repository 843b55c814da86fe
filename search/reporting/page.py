"""The report as one self-contained HTML page: no scripts, no network, images as inline SVG."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.hints import command_of
from search.reporting.charts import LINE_STYLES, Line, line_chart, timeline
from search.reporting.columns import Column, further_names
from search.reporting.confirmation_text import columns, sentences, texts_of
from search.reporting.failure_text import MOST_SHOWN, failure_groups, failure_title, group_lines
from search.reporting.heatmaps import RAMP
from search.reporting.report_data import BEST_LINES, ReportData
from search.reporting.search_charts import search_charts
from search.reporting.verdict_text import largest_difference, losses_to_compare
from search.statistics.ranking import Row
from search.study.formatting import MAX_DIGITS, difference_text, largest_size, loss_text, value_text
from search.study.metrics import DEFAULT_NAME

TEMPLATE = "page.html.jinja"
MOST_METRICS = 8  # of those that have a chart of their own, besides the first
MOST_ROWS = 200  # of the comparisons, and of the table unless --top sets another number
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
        loss=_loss, amount=_amount, duration=_duration, signed=_signed, quote=shlex.quote, command_of=command_of
    )
    return environment.get_template(TEMPLATE).render(**_view(report_data, top), cols=cols)


def _view(report_data: ReportData, top: int | None) -> dict[str, Any]:
    leaders = report_data.leaders()
    rows = report_data.rows[: MOST_ROWS if top is None else top]
    bars = report_data.bars()
    return {
        "report_data": report_data,
        **_metric_words(report_data),
        "further": further_names(rows),
        "summary": summary(report_data),
        "rows": rows,
        "axes": sorted(_shown_axes(rows), key=lambda name: (name != "model", name != "pe_type")),
        "hidden": len(report_data.rows) - len(rows),
        "has_published": any(row.published is not None for row in rows),
        # An objective of the user's own may record none of these.
        "has": {
            fact: any(getattr(row, fact) is not None for row in rows)
            for fact in ("train_loss", "n_params", "tokens", "seconds")
        },
        "largest": {
            "published": largest_size(row.difference for row in rows),
            "baseline": largest_size(map(report_data.minus_baseline, rows)),
            "comparison": 0.0
            if report_data.verdicts is None
            else largest_difference([each.comparisons[0] for each in report_data.verdicts.comparisons]),
        },
        "has_seeds": any(row.trials[1] > 1 for row in rows),
        "confirmation": _confirmation(report_data),
        "search_charts": search_charts(report_data),
        "heat_maps": report_data.heat_maps(),
        "ramp": Markup(", ".join(RAMP)),
        "charts": _curves(report_data, leaders),
        "positions": _chart(
            report_data,
            report_data.by_position(leaders),
            "Loss by position in the context window",
            "position, characters",
        ),
        "timeline": timeline(bars, "When each trial ran, and how it ended") if bars else None,
        "failures_left_out": max(0, len(failure_groups(report_data.failed)) - MOST_SHOWN),
        "outcomes": [(name, words) for name, words in OUTCOMES.items() if any(bar.outcome == name for bar in bars)],
        "environments": report_data.environments(),
        "failures": [
            {"title": failure_title(group[0]), "lines": group_lines(group)}
            for group in failure_groups(report_data.failed)[:MOST_SHOWN]
        ],
        "generated_texts": report_data.generated_texts(leaders),
        "most_comparisons": MOST_ROWS,
    }


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
        "is_language_model": report_data.stored.corpus is not None,
        "values_are": _values_are(report_data),
        "unit_below": Markup("<small>nats/char.</small>") if report_data.unit else "",
    }


def _curves(report_data: ReportData, leaders: Sequence[Row]) -> list[dict[str, Any]]:
    """Learning curves of the metric, and of each other one."""
    best = report_data.ranked[:BEST_LINES]
    of_best, below = f"the best {len(best)} cells", "training steps"
    found = [
        _chart(report_data, report_data.curves(leaders), "Learning curves: the best of each kind", below),
        _chart(report_data, report_data.curves(best), f"Learning curves: {of_best}", below),
    ]
    for name in further_names(best)[:MOST_METRICS]:
        found.append(_chart(report_data, report_data.metric_curves(best, name), f"{name}: {of_best}", below, name))
    return [chart for chart in found if chart is not None]


def _chart(
    report_data: ReportData, lines: Sequence[Line], title: str, x_label: str, y_label: str | None = None
) -> dict[str, Any] | None:
    if not lines:
        return None
    baseline = report_data.bigram_baseline if y_label is None else None
    image = line_chart(lines, title, x_label, y_label or report_data.metric_title, baseline)
    legend = [(index % LINE_STYLES, line.label) for index, line in enumerate(lines)]
    return {"title": title, "image": image, "legend": legend}


def summary(report_data: ReportData) -> list[str]:
    """Sentences about what was tried and found, for a reader who does not know the study."""
    definition, grid = report_data.stored.definition, report_data.grid
    varied = {name: values for name, values in grid.items() if len(values) > 1}
    n_cells = len(report_data.rows)
    where = definition.space.where
    variants = f"{_count(n_cells, 'variant')} ({'cell' if n_cells == 1 else 'cells'})"
    tried = ", ".join(
        [
            *(f"{len(values)} values of {name}{where(name)}" for name, values in varied.items()),
            *(f"{name} from {axis.low} to {axis.high}{where(name)}" for name, axis in definition.axes.items()),
        ]
    )
    if report_data.stored.is_made_by_optuna:
        return [
            f"{_count(sum(report_data.counts.values()), 'trial')} of a study that Optuna made, {variants}"
            + (f": {tried}." if tried else "."),
            *_results(report_data),
        ]
    sampler = definition.sampler
    how = "every combination of" if sampler is None else f"chosen by the sampler {sampler.name} from"
    # A user's objective may count steps differently.
    max_iters = _amount(definition.training.max_iters)
    steps = f"; {max_iters} training steps each" if report_data.stored.corpus is not None else ""
    sentences = [
        f"{_count(sum(report_data.counts.values()), 'trial')} trained {variants} of {_subject(report_data)}"
        + (f": {how} {tried}{_besides(report_data)}" if tried else "")
        + (f", and {_count(len(report_data.baselines), 'baseline')}" if report_data.baselines else "")
        + f"{steps}.",
    ]
    return sentences + _results(report_data)


def _besides(report_data: ReportData) -> str:
    """What the values of the axes do not say: excluded cells, and those that were enqueued."""
    definition = report_data.stored.definition
    excluded = " except the excluded combinations" if definition.exclude else ""
    if not definition.enqueue:
        return excluded
    if definition.sampler is not None:
        return f"{excluded}, after {_count(len(definition.enqueue), 'enqueued cell')}"
    further = len(definition.cells) - len(definition.space.cells())
    return excluded + (f", and {_count(further, 'enqueued cell')} besides" if further else "")


def _results(report_data: ReportData) -> list[str]:
    sentences, ranked = [], report_data.ranked
    if (on_front := sum(row.on_front is True for row in ranked)) > 0:
        *firsts, last = [each.name for each in report_data.stored.definition.metrics]
        named = f"{', '.join(firsts)} and {last}"
        sentences.append(
            f"{_count(on_front, 'cell')} {'is' if on_front == 1 else 'are'} on the Pareto front of {named}."
        )
    if ranked:
        sentences.append(_winner(report_data, ranked[0]))
        verdicts = report_data.verdicts
        if verdicts is not None and len(verdicts.candidates) > 1:
            labels = [report_data.label(each.cell) for each in verdicts.candidates]
            sentences.append(
                f"{len(labels)} cells may be the best: {'; '.join(labels[:6])}"
                + ("; and more." if len(labels) > 6 else ".")
            )
        elif verdicts is not None and len(verdicts.candidates) == 1 and len(ranked) > 1:
            sentences.append("Every other cell that could be compared is worse beyond chance.")
        compared = [row for row in ranked if row.published_agrees is not None]
        if compared:
            plural = "losses" if report_data.metric.name == DEFAULT_NAME else "values"
            agree = sum(bool(row.published_agrees) for row in compared)
            sentences.append(f"Published {plural} that another seed could have: {agree} of {len(compared)}.")
    return sentences


def _values_are(report_data: ReportData) -> str:
    metrics = report_data.stored.definition.metrics
    if len(metrics) > 1:
        named = ", ".join(f"{each.name} ({each.better} is better)" for each in metrics)
        return (
            f"Means over the seeds of a cell. Objectives: {named}. Cells on the Pareto front come first: no other cell "
            "is better in one objective and as good in the others."
        )
    if report_data.metric.name == DEFAULT_NAME:
        return f"Losses{f' in {report_data.unit}' if report_data.unit else ''}, means over the seeds of a cell."
    return f"Means over the seeds of a cell; {report_data.metric.better} {report_data.metric.name} is better."


def _shown_axes(rows: Sequence[Row]) -> list[str]:
    """The axes of which the cells have different values; those of one value are in the study file."""
    axes = {name: None for row in rows for name in row.cell}
    return [name for name in axes if len({value_text(row.cell.get(name), MAX_DIGITS) for row in rows}) > 1] or [*axes]


def _subject(report_data: ReportData) -> str:
    corpus = report_data.stored.corpus
    if corpus is None:
        return f"the objective {report_data.stored.definition.objective}"
    return f"a small language model on the text {corpus}"


def _count(number: int, noun: str) -> str:
    return f"{_amount(number)} {noun}{'' if number == 1 else 's'}"


def _winner(report_data: ReportData, row: Row) -> str:
    spread = "" if row.interval is None else f" ± {_loss(row.interval)} (95 % interval over {row.trials[0]} seeds)"
    metric, unit = report_data.metric, f" {report_data.unit}" if report_data.unit else ""
    sentence = (
        f"The {metric.superlative} mean {metric.label}, {_loss(row.val_loss)}{spread}{unit}, has "
        f"{report_data.label(row.cell)}."
    )
    if report_data.bigram_baseline is not None and row.val_loss is not None:
        gap = report_data.bigram_baseline - row.val_loss
        side = "below" if gap > 0 else "above"
        baseline = _loss(report_data.bigram_baseline)
        sentence += (
            f" That is {_loss(abs(gap))} {side} the bigram baseline, {baseline}, the loss of counting character pairs."
        )
    others = losses_to_compare(report_data.stored, row)
    return f"{sentence} For comparison: {others}." if others else sentence


def _loss(value: float | None) -> str:
    return loss_text(value, 4)


def _amount(value: float | None) -> str:
    """An integer with narrow no-break spaces between groups of three digits."""
    return "" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def _signed(value: float | None, largest: float) -> str:
    return difference_text(value, 4, largest)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
