"""The answers of a report in every format: which cell is the best and how sure, the claims, and what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.reporting.confirmation_text import sentences as confirmation_sentences
from search.reporting.plain_answers import best_sentences, plain_answer
from search.reporting.report_data import ReportData
from search.reporting.verdict_text import losses_to_compare
from search.study.formatting import count_text, loss_text, metric_text

DIGITS = 4


@dataclass(frozen=True)
class BestWords:
    """The answer to "Which is best?".

    Attributes:
        headline: The cell, or that there is no single one.
        value: Its value.
        sentences: How sure that is.
        asides: What to compare it with.
    """

    headline: str
    value: str
    sentences: Sequence[str]
    asides: Sequence[str] = ()


def best_words(report_data: ReportData) -> BestWords:
    """The best cell and how sure it is."""
    ranked = report_data.ranked
    if not ranked:
        return BestWords("No cell yet", "", ["No cell has a final value, so none can be ranked."])
    if ranked[0].on_front is not None:
        return _front_words(report_data)
    row, unit = ranked[0], f" {report_data.unit}" if report_data.unit else ""
    seeds = f" ({count_text(row.trials[0], 'seed')})" if row.trials[1] > 1 else ""
    spread = "" if row.interval is None else f" ± {loss_text(row.interval, DIGITS)}"
    name = (
        ""
        if row.val_loss is None
        else f"{report_data.metric.label} {loss_text(row.val_loss, DIGITS)}{spread}{unit}{seeds}"
    )
    if row.loss_unit is not None and row.val_loss is not None:
        name += f"; {row.loss_unit.in_words(row.val_loss)}"
    sentences = best_sentences(ranked, report_data.verdicts, report_data.terms)
    if report_data.confirmation is not None:
        sentences += confirmation_sentences(report_data.confirmation, report_data.digits)[:2]
    asides = []
    if report_data.bigram_baseline is not None and row.val_loss is not None:
        gap = report_data.bigram_baseline - row.val_loss
        side = "below" if gap > 0 else "above"
        baseline = loss_text(report_data.bigram_baseline, DIGITS)
        asides.append(
            f"{loss_text(abs(gap), DIGITS)} {side} the bigram baseline {baseline}, which counts "
            f"{report_data.stored.text_unit.name} pairs."
        )
    if others := losses_to_compare(report_data.stored, row):
        asides.append(f"For comparison: {others}.")
    return BestWords(report_data.label(row.cell), name, sentences, asides)


def _front_words(report_data: ReportData) -> BestWords:
    metrics = report_data.stored.definition.metrics
    front = [row for row in report_data.ranked if row.on_front]
    named = " and ".join(each.name for each in metrics)
    cells = "1 cell is" if len(front) == 1 else f"{len(front)} cells are"
    sentences = [f"{cells} on the Pareto front of {named}: no other cell is better in one and as good in the others."]
    for at, metric in enumerate(metrics):
        with_value = [(value, row) for row in front if (value := row.values[at]) is not None]
        if with_value:
            value, row = min(with_value, key=lambda each: metric.loss(each[0]))
            text = metric_text([value for value, _ in with_value], DIGITS)(value)
            sentences.append(f"The {metric.superlative} {metric.name}, {text}, has {report_data.label(row.cell)}.")
    return BestWords("No single best", f"{count_text(len(front), 'cell')} on the Pareto front", sentences)


def best_line(report_data: ReportData) -> list[str]:
    """The best cell and how sure it is, as one text; none without a ranked cell."""
    if not report_data.ranked:
        return []
    words = best_words(report_data)
    value = f", {words.value}" if words.value else ""
    return [" ".join([f"{words.headline}{value}.", *words.sentences, *words.asides])]


@dataclass(frozen=True)
class ShortAnswer:
    """The answer to a claim.

    Attributes:
        claim: In words.
        verdict: The word, with what belongs to it.
        sentence: The answer in one sentence.
    """

    claim: str
    verdict: str
    sentence: str


def short_answers(report_data: ReportData) -> list[ShortAnswer]:
    """The answers to the claims of a study, in their order."""
    answers = () if report_data.verdicts is None else report_data.verdicts.answers
    return [
        ShortAnswer(each.claim, each.words, plain_answer(claim, each, report_data.terms))
        for claim, each in zip(report_data.stored.claims, answers, strict=True)
    ]


def closing_lines(report_data: ReportData) -> list[str]:
    """What the end of a run says of the results: the answers to the claims, if there can be any, and the next step."""
    lines = []
    if any(row.trials[0] > 1 for row in report_data.rows):
        lines += [f"  {answer.verdict}: {answer.claim}" for answer in short_answers(report_data)]
    lines = ["claims:", *lines] if lines else []
    for step in report_data.next_steps()[:1]:
        lines.append(f"next:   {step.why}")
        lines += [f"        {step.command}"] if step.command else []
    return lines


def answers_as_dict(report_data: ReportData) -> dict[str, Any]:
    """The answers for JSON."""
    return {
        "best": " ".join(best_line(report_data)) or None,
        "claims": [asdict(each) for each in short_answers(report_data)],
        "next": [asdict(each) for each in report_data.next_steps()],
    }
