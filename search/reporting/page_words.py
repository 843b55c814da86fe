"""Sentences and numbers of the page."""

from __future__ import annotations

from search.reporting.report_data import ReportData
from search.study.formatting import difference_text, loss_text
from search.study.metrics import DEFAULT_NAME


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
    max_iters = amount(definition.training.max_iters)
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
    compared = [row for row in report_data.ranked if row.published_agrees is not None]
    if not compared:
        return []
    plural = "losses" if report_data.metric.name == DEFAULT_NAME else "values"
    agree = sum(bool(row.published_agrees) for row in compared)
    return [f"Published {plural} that another seed could have: {agree} of {len(compared)}."]


def values_are(report_data: ReportData) -> str:
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


def _subject(report_data: ReportData) -> str:
    corpus = report_data.stored.corpus
    if corpus is None:
        return f"the objective {report_data.stored.definition.objective}"
    return f"a small language model on the text {corpus}"


def _count(number: int, noun: str) -> str:
    return f"{amount(number)} {noun}{'' if number == 1 else 's'}"


def loss(value: float | None) -> str:
    return loss_text(value, 4)


def amount(value: float | None) -> str:
    """An integer with narrow no-break spaces between groups of three digits."""
    return "" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def signed(value: float | None, largest: float) -> str:
    return difference_text(value, 4, largest)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
