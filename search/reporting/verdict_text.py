"""What the results decide, as text: verdicts as markdown, and losses to compare the best cell with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from search.reporting.escapes import markdown_text
from search.reporting.plain_answers import Terms, plain_answer
from search.statistics.claim_answers import Answer
from search.statistics.comparison import Comparison
from search.statistics.ranking import Row
from search.statistics.verdicts import Verdicts
from search.study.claims import Claim
from search.study.formatting import count_text, difference_text, largest_size, loss_text
from search.study.metrics import DEFAULT_METRIC, Metric
from search.study.stored import StoredStudy

MAX_CANDIDATES = 20
Named = Callable[[str, Any], str]  # a level of a factor as text


def verdicts_as_markdown(verdicts: Verdicts, terms: Terms | None = None, claims: Sequence[Claim] = ()) -> str:
    """A section with the verdicts on claims, the cells that may be the best, comparisons, and notes.

    Args:
        terms: What the values are called.
        claims: Those that the verdicts answer, in their order.
    """
    terms = Terms(DEFAULT_METRIC, {}) if terms is None else terms

    def named(factor: str, value: object) -> str:
        return markdown_text(terms.level(factor, value))

    lines = ["## Verdicts", ""]
    if verdicts.answers:
        lines += ["| claim | verdict | in short | figures |", "| --- | --- | --- | --- |"]
        lines += [_claim_line(claim, each, terms) for claim, each in zip(claims, verdicts.answers, strict=True)]
        lines.append("")
    lines += _candidates(verdicts, named)
    lines += _comparisons(verdicts, named, terms.metric)
    lines += [f"- {note}" for note in verdicts.notes]
    return "\n".join(lines).rstrip() + "\n"


def _claim_line(claim: Claim, answer: Answer, terms: Terms) -> str:
    plain = plain_answer(claim, answer, terms)
    figures = [answer.sentence if answer.sentence != plain else "", answer.conditions]
    texts = [answer.claim, f"**{markdown_text(answer.words)}**", plain, " ".join(filter(None, figures))]
    return f"| {' | '.join(text if at == 1 else markdown_text(text) for at, text in enumerate(texts))} |"


def _candidates(verdicts: Verdicts, named: Named) -> list[str]:
    if not verdicts.candidates:
        return []
    lines = [
        "The best cell is one of these with 95 %:",
        "",
        "| cell | probability of being the best | expected regret |",
    ]
    lines += ["| --- | ---: | ---: |"]
    lines += [
        f"| {named('cell', each.cell)} | {100 * each.probability:.1f} % | {loss_text(each.regret)} |"
        for each in verdicts.candidates[:MAX_CANDIDATES]
    ]
    more = len(verdicts.candidates) - MAX_CANDIDATES
    return [*lines, *(["", f"and {count_text(more, 'more cell')}"] if more > 0 else []), ""]


def _comparisons(verdicts: Verdicts, named: Named, metric: Metric) -> list[str]:
    if not verdicts.comparisons:
        return []
    lines = [
        f"| factor | {metric.better} | {metric.worse} | difference | 95 % interval | settings agreeing | "
        "corrected p | verdict |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | --- |",
    ]
    largest = largest_difference([each.comparisons[0] for each in verdicts.comparisons])
    lines += [_comparison_line(each, named, largest) for each in verdicts.comparisons]
    if verdicts.compared > len(verdicts.comparisons):
        lines += ["", f"{verdicts.compared - len(verdicts.comparisons)} more comparisons are left out."]
    return [
        *lines,
        "",
        f"A difference is the mean difference in {markdown_text(metric.label)} over all pairs of cells that differ "
        "only in the factor. All intervals of this section, those in brackets included, hold at once with 95 %, and p "
        "is corrected alike.",
        "",
    ]


def largest_difference(comparisons: Sequence[Comparison]) -> float:
    """The largest size of a mean difference or of an end of its interval."""
    return largest_size(value for each in comparisons for value in (each.mean, each.low, each.high))


def _comparison_line(answer: Answer, named: Named, largest: float) -> str:
    [each] = answer.comparisons
    better, worse = (named(each.factor, value) for value in (each.better, each.worse))
    mean, low, high = (
        difference_text(value, 4, largest).removeprefix("+") for value in (each.mean, each.low, each.high)
    )
    interval = f"{low} to {high}" if each.low is not None else ""
    p = "" if each.p is None else f"{each.p:.2g}"
    agree = f"{each.agree} of {len(each.settings)}"
    words = markdown_text(answer.words)
    return f"| {each.factor} | {better} | {worse} | {mean} | {interval} | {agree} | {p} | {words} |"


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
