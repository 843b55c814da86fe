"""What the results decide, as text: verdicts as markdown, and losses to compare the best cell with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.reporting.escapes import markdown_text
from search.statistics.comparisons import Comparison
from search.statistics.ranking import Row
from search.statistics.verdicts import Verdicts
from search.study.formatting import describe_level, difference_text, largest_size, loss_text
from search.study.metrics import DEFAULT_METRIC, Metric
from search.study.stored import StoredStudy

MAX_TIED = 20


def verdicts_as_markdown(
    verdicts: Verdicts, digits: Mapping[str, int] | None = None, metric: Metric = DEFAULT_METRIC
) -> str:
    """A section with the verdicts on claims, the cells that may be the best, comparisons, and notes.

    Args:
        digits: The digits that tell the values of an axis apart.
        metric: What the verdicts compare.
    """

    def named(factor: str, value: object) -> str:
        return markdown_text(describe_level(factor, value, digits))

    lines = ["## Verdicts", ""]
    if verdicts.answers:
        lines += ["| claim | verdict | what the results say |", "| --- | --- | --- |"]
        lines += [
            f"| {markdown_text(each.claim)} | **{each.verdict}** | {markdown_text(each.sentence)} |"
            for each in verdicts.answers
        ]
        lines.append("")
    if len(verdicts.tied) > 1:
        lines += ["Not separable from the best, best first:", ""]
        lines += [f"- {named('cell', cell)}" for cell in verdicts.tied[:MAX_TIED]]
        lines += [f"- and {len(verdicts.tied) - MAX_TIED} more"] if len(verdicts.tied) > MAX_TIED else []
        lines.append("")
    elif verdicts.tied and verdicts.comparisons:
        best = named("cell", verdicts.tied[0])
        lines += [f"The best cell is separable from all others that could be compared: {best}.", ""]
    if verdicts.comparisons:
        lines += [
            f"| factor | {metric.better} | {metric.worse} | difference | 95 % interval | cells agreeing | "
            "corrected p | verdict |",
            "| --- | --- | --- | ---: | --- | ---: | ---: | --- |",
        ]
        largest = largest_difference(verdicts.comparisons)
        lines += [
            _comparison_line(each, named(each.factor, each.better), named(each.factor, each.worse), largest)
            for each in verdicts.comparisons
        ]
        if verdicts.compared > len(verdicts.comparisons):
            left_out = verdicts.compared - len(verdicts.comparisons)
            lines += ["", f"{left_out} more comparisons are left out: those with the largest differences to the best."]
        lines += [
            "",
            f"A difference is the mean difference in {markdown_text(metric.label)} over all pairs of cells that differ "
            "only in the factor, on the same seeds. Intervals and p-values (paired t-test, Benjamini-Hochberg) are "
            "over the seeds.",
            "",
        ]
    lines += [f"- {note}" for note in verdicts.notes]
    return "\n".join(lines).rstrip() + "\n"


def largest_difference(comparisons: Sequence[Comparison]) -> float:
    """The largest size of a mean difference or of an end of its interval."""
    return largest_size(value for each in comparisons for value in (each.mean, each.low, each.high))


def _comparison_line(each: Comparison, better: str, worse: str, largest: float) -> str:
    has_interval = each.low is not None and each.high is not None
    mean, low, high = (
        difference_text(value, 4, largest).removeprefix("+") for value in (each.mean, each.low, each.high)
    )
    interval = f"{low} to {high}" if has_interval else ""
    p = "" if each.p_adjusted is None else f"{each.p_adjusted:.2g}"
    agree = f"{each.cells_agree} of {each.cells}"
    return f"| {each.factor} | {better} | {worse} | {mean} | {interval} | {agree} | {p} | {each.verdict} |"


def losses_to_compare(study: StoredStudy, best: Row) -> str:
    """The values to compare the best cell of a sampled study with, as text; "" if there are none.

    Args:
        best: Its best complete cell.
    """
    if best.val_loss is None or study.definition.sampler is None:
        return ""
    warm_start = study.warm_start
    others = {} if warm_start is None else {f"best of {warm_start.study}": warm_start.best.val_loss}
    if study.published:
        others["published best"] = min((each.val_loss for each in study.published), key=study.definition.metric.loss)
    return "; ".join(
        f"{name} {loss_text(loss)} ({difference_text(best.val_loss - loss)})" for name, loss in others.items()
    )
