"""A report in each of its formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.objectives.registry import OBJECTIVES
from search.reporting.analyses_text import analyses_as_dict, analyses_as_markdown
from search.reporting.answers_text import answers_as_dict, best_line
from search.reporting.columns import Column
from search.reporting.columns import columns as columns_of
from search.reporting.confirmation_text import confirmation_as_markdown
from search.reporting.cost_text import cost_as_dict, cost_as_markdown
from search.reporting.escapes import markdown_text
from search.reporting.failure_text import failures_as_markdown
from search.reporting.latex import as_latex
from search.reporting.next_steps import NextStep
from search.reporting.report_data import ReportData, read_report_data
from search.reporting.tables import as_csv, as_json, as_markdown
from search.reporting.verdict_text import verdicts_as_markdown
from search.statistics.analyses import analyse
from search.statistics.ranking import Row
from search.storage.database import Database
from search.storage.texts import printable
from search.study.formatting import count_text, loss_text, values_text
from search.study.metrics import DEFAULT_METRIC, DEFAULT_NAME, Metric
from search.study.pruner_settings import PrunerSettings
from search.study.search_space import Range, SamplerSettings
from search.study.warm_starts import WarmStart

# Characters of a command line.
MAX_COMMAND = 1_000
# The formats and their file suffixes.
FORMATS = {"markdown": ".md", "csv": ".csv", "json": ".json", "latex": ".tex", "html": ".html"}


def format_of(output: Path | None) -> str:
    """The format for the suffix of the output file."""
    suffix = "" if output is None else output.suffix.lower()
    return next((name for name, each in FORMATS.items() if each == suffix), "markdown")


def render(
    database: Database,
    names: Sequence[str],
    format: str,
    top: int | None = None,
    width: int | None = None,
    columns: Sequence[str] | None = None,
) -> str:
    """The report of a study.

    Args:
        names: The study, and its sibling with the baselines if the report includes it; the first is the title.
        format: "markdown", "csv", "json", "latex" or "html".
        top: The number of rows of the table; None for all, or on the page the best 200.
        width: The number of columns of the terminal that will show the markdown; None for markdown alone.
        columns: The columns of the table, in their order; None for those with something to say.

    Raises:
        UsageError: The table has no such column, or the format takes none.
    """
    if columns is not None and format == "json":
        raise UsageError("json has all columns; leave the columns out, or choose markdown, csv, latex or html")
    report_data = read_report_data(database, names, with_trials=format == "html", with_verdicts=format != "csv")
    if format == "html":
        from search.reporting.page import as_html

        return as_html(report_data, top, _chosen(report_data, columns))
    shown, cols = report_data.rows[:top], _chosen(report_data, columns)
    if format == "csv":
        return as_csv(shown, cols)
    confirmation = report_data.confirmation
    verdicts = report_data.verdicts
    assert verdicts is not None, "they were asked for"
    if format == "latex":
        remarks = [*best_line(report_data), *report_data.missing, *_left_out(report_data.rows, shown)]
        return as_latex(names[0], _values(report_data), shown, remarks, cols)
    if format == "json":
        facts: dict[str, Any] = {
            "study": names[0],
            "counts": report_data.counts,
            "definition": report_data.stored.definition.as_stored,
        }
        facts["metrics"] = [each.as_dict() for each in report_data.stored.definition.metrics]
        results = {
            "bigram_baseline": report_data.bigram_baseline,
            "missing": report_data.missing,
            "notes": report_data.notes,
            "verdicts": verdicts.as_dict(),
            **answers_as_dict(report_data),
            **analyses_as_dict(analyse(report_data.stored, report_data.rows)),
            **({} if confirmation is None else {"confirmation": confirmation.as_dict()}),
            **({} if report_data.cost is None else {"cost": cost_as_dict(report_data.cost)}),
        }
        return as_json(shown, {**facts, **results})
    decided = verdicts_as_markdown(verdicts, report_data.terms, report_data.stored.claims).rstrip()
    if analyses := analyse(report_data.stored, report_data.rows):
        decided = f"{analyses_as_markdown(analyses)}\n{decided}"
    if confirmation is not None:
        decided = f"{confirmation_as_markdown(confirmation, report_data.digits)}\n{decided}"
    cost = "" if report_data.cost is None else cost_as_markdown(report_data.cost)
    return "\n\n".join(part for part in (_as_page(report_data, shown, width, cols), decided, cost.rstrip()) if part)


def _chosen(report_data: ReportData, names: Sequence[str] | None) -> list[Column] | None:
    return None if names is None else columns_of(report_data.rows, names)


def _as_table(rows: Sequence[Row], width: int | None, cols: Sequence[Column] | None) -> str:
    if width is None:
        return as_markdown(rows, cols)
    from search.reporting.terminal_table import as_terminal_table  # imports rich

    return as_terminal_table(rows, width, cols)


def _as_page(report_data: ReportData, shown: Sequence[Row], width: int | None, cols: Sequence[Column] | None) -> str:
    stored, found, rows = report_data.stored, report_data.counts, report_data.rows
    definition = stored.definition
    where = definition.space.where
    axes = "; ".join(
        [
            *(
                f"{axis}: {markdown_text(values_text(values) + where(axis))}"
                for axis, values in definition.grid.items()
            ),
            *(_range(axis, each) + markdown_text(where(axis)) for axis, each in definition.axes.items()),
        ]
    )
    settings = {"training": stored.used_training, "settings": definition.user_settings}
    lines = [
        f"# {report_data.name}",
        "",
        *([markdown_text(stored.description), ""] if stored.description else []),
        f"- trials: {', '.join(f'{count} {state}' for state, count in found.items() if count) or 'none'}",
        *([] if definition.sampler is None else [f"- sampler: {_sampler(definition.sampler, stored.warm_start)}"]),
        *(f"- best: {markdown_text(sentence)}" for sentence in best_line(report_data)),
        *(_next_line(step) for step in report_data.next_steps()),
        *([f"- grid: {axes}"] if axes else []),
        *(f"- {name}: {markdown_text(_settings_text(each))}" for name, each in settings.items() if each),
        *([f"- objective: {definition.objective}"] if definition.objective not in (*OBJECTIVES, "") else []),
        *([f"- corpus: {markdown_text(stored.corpus)}, SHA-256 {definition.corpus_sha256}"] if stored.corpus else []),
        *([] if stored.is_made_by_optuna else [f"- pruner: {_pruner(stored.settings.pruner, definition.metrics)}"]),
        *(
            [
                f"- bigram baseline: {loss_text(report_data.bigram_baseline)}, the loss of counting "
                f"{stored.text_unit.name} pairs"
            ]
            if report_data.bigram_baseline is not None
            else []
        ),
        *(f"- note: {markdown_text(sentence)}" for sentence in [*report_data.missing, *report_data.notes]),
        "",
        _how_to_read(report_data),
        "",
        _as_table(shown, width, cols),
    ]
    for remark in [*_left_out(rows, shown), failures_as_markdown(report_data.failed)]:
        lines += ["", remark] if remark else []
    return "\n".join(lines)


def _next_line(step: NextStep) -> str:
    command = f" `{printable(step.command, MAX_COMMAND)}`" if step.command else ""
    return f"- next: {markdown_text(step.why)}{command}"


def _settings_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _values(report_data: ReportData) -> str:
    """What the table has, for its caption."""
    metric = report_data.metric
    if metric.name == DEFAULT_NAME:
        return "validation losses" + (f" in {report_data.unit}" if report_data.unit else "")
    return f"{metric.name} ({metric.better} is better)"


def _how_to_read(report_data: ReportData) -> str:
    metrics, rows = report_data.stored.definition.metrics, report_data.rows
    is_loss = report_data.metric.name == DEFAULT_NAME
    name, values, value = (
        markdown_text(report_data.metric.name),
        *(("Losses", "loss") if is_loss else ("Values", "value")),
    )
    sentences = [
        f"{values} are means over the trials of a cell{f', in {report_data.unit}' if report_data.unit else ''}; "
        + (
            f"{name} ranks."
            if report_data.metric == DEFAULT_METRIC
            else f"{name} ranks, {report_data.metric.better} is better."
        )
    ]
    if len(metrics) > 1:
        named = ", ".join(f"{markdown_text(each.name)} ({each.better} is better)" for each in metrics)
        sentences = [
            f"Values are means over the trials of a cell. The objectives are {named}. Cells on the Pareto front come "
            f"first: no other cell is better in one and as good in the others. Beyond that {name} ranks."
        ]
    if report_data.counts["pruned"]:
        sentences.append(f"A pruned cell's {value} is that of the step at which it was pruned.")
    if any(row.published is not None for row in rows):
        sentences.append(f"Difference is {name} minus the published {value}.")
    if any(not row.is_feasible for row in rows):
        sentences.append("An infeasible cell violates a constraint of its objective and has no rank.")
    return " ".join(sentences)


def _left_out(rows: Sequence[Row], shown: Sequence[Row]) -> list[str]:
    return [f"{count_text(len(rows) - len(shown), 'more cell')}."] if len(shown) < len(rows) else []


def _sampler(sampler: SamplerSettings, warm_start: WarmStart | None) -> str:
    arguments = markdown_text(", ".join(f"{key} {value}" for key, value in sampler.arguments.items()))
    started = "" if warm_start is None else f"; started with the cells of {warm_start.study}"
    return sampler.name + (f" ({arguments})" if arguments else "") + started


def _range(axis: str, ends: Range) -> str:
    return f"{axis}: {ends.low} to {ends.high}" + (", log" if ends.log else "")


def _pruner(settings: PrunerSettings, metrics: Sequence[Metric]) -> str:
    used = markdown_text(", ".join(f"{key} {value}" for key, value in settings.arguments.items()))
    named = f"{settings.name} ({used})" if used else settings.name
    if settings.metric is None:
        return named
    judged = settings.judged(metrics)
    return f"{named}, judges by {markdown_text(judged.name)} ({judged.better} is better)"
