"""Answers in one sentence that needs no statistics: to each claim, and to which cell is the best."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.statistics.answers import EVERYWHERE, Verdict
from search.statistics.claim_answers import Answer
from search.statistics.comparison import Comparison
from search.statistics.ranking import Row
from search.statistics.verdicts import Verdicts
from search.storage.values import canonical
from search.study.claims import Claim
from search.study.formatting import count_text, describe_level, loss_text
from search.study.metrics import Metric

# The joint interval in the sentence of a trend.
_INTERVAL = re.compile(r" \[[^\[\];]*; above 0 it grows\]")


@dataclass(frozen=True)
class Terms:
    """What a study's values are called.

    Attributes:
        metric: What is compared.
        digits: The digits that tell the values of each axis apart.
        unit: Of the metric; "" for none.
    """

    metric: Metric
    digits: Mapping[str, int]
    unit: str = ""

    def level(self, factor: str, value: Any) -> str:
        """A level of a factor, or a cell, in a few words."""
        return describe_level(factor, value, self.digits)

    def size(self, difference: float) -> str:
        """The size of a difference."""
        return loss_text(abs(difference), 3 if abs(difference) >= 0.01 else 4)


def plain_answer(claim: Claim, answer: Answer, terms: Terms) -> str:
    """What the results say about a claim, in one sentence."""
    if claim.along is not None or not answer.comparisons:
        return _INTERVAL.sub("", answer.sentence)
    if answer.verdict is Verdict.NOT_ANSWERABLE:
        return _not_answerable(answer)
    if claim.not_always and answer.verdict is Verdict.YES:
        return answer.sentence
    if claim.not_always and answer.verdict is Verdict.OPPOSITE:
        return "This order of the values holds in every setting."
    if len(answer.comparisons) > 1:
        return _steps(claim, answer, terms)
    return _SENTENCES[answer.verdict](_Pair(claim, answer, terms))


class _Pair:
    """A claim about two levels or two cells."""

    def __init__(self, claim: Claim, answer: Answer, terms: Terms) -> None:
        self.comparison: Comparison = answer.comparisons[0]
        first = claim.cells[0] if claim.cells else claim.order[0] if claim.order else self.comparison.better
        self.claim_leads = canonical(self.comparison.better) == canonical(first)
        self.answer, self.terms = answer, terms
        factor = self.comparison.factor
        self.better, self.worse = (
            terms.level(factor, each) for each in (self.comparison.better, self.comparison.worse)
        )
        self.first = self.better if self.claim_leads else self.worse
        self.by = f"by {terms.size(self.comparison.mean)}{f' {terms.unit}' if terms.unit else ''}"
        self.n = len(self.comparison.settings)

    @property
    def leads(self) -> str:
        """Which is ahead, and by how much."""
        metric = self.terms.metric
        average = f" on average over {self.n} settings" if self.n > 1 else ""
        return f"{self.better} has the {metric.better} {metric.label} than {self.worse}, {self.by}{average}".replace(
            "the lower", "a lower"
        ).replace("the higher", "a higher")


def _yes(pair: _Pair) -> str:
    if pair.n == 1:
        return f"{pair.leads}, more than chance explains."
    if pair.answer.detail == EVERYWHERE:
        return f"{pair.leads}, and in each of them beyond chance."
    return f"{pair.leads}, more than chance explains, and in {pair.comparison.agree} of them."


def _only_where(pair: _Pair) -> str:
    sign = 1 if pair.claim_leads else -1
    against = sum(each.sign == -sign for each in pair.comparison.settings)
    rest = (
        f"in {count_text(against, 'other setting')} it is worse" if against else "in the others chance can explain it"
    )
    return f"{pair.first} is better beyond chance only where {pair.answer.detail}; {rest}."


def _no_clear_difference(pair: _Pair) -> str:
    margin = pair.comparison.margin
    return f"{pair.better} and {pair.worse} differ by less than {margin:g}, which does not matter here."


def _cannot_tell(pair: _Pair) -> str:
    if pair.answer.detail == "one seed a cell":
        return f"{pair.leads}, but with one seed a cell that may be chance."
    if pair.answer.detail:
        return f"{pair.leads} so far, but {pair.answer.detail}."
    return f"{pair.leads}, but chance can explain that."


def _opposite(pair: _Pair) -> str:
    return f"The other way round: {_yes(pair)}"


def _undecidable(pair: _Pair) -> str:
    why = f": {pair.answer.detail}" if pair.answer.detail else ", and the budget does not suffice to decide it"
    return f"{pair.leads}, but chance can explain that{why}."


_SENTENCES: Mapping[Verdict, Callable[[_Pair], str]] = {
    Verdict.YES: _yes,
    Verdict.ONLY_WHERE: _only_where,
    Verdict.OPPOSITE: _opposite,
    Verdict.NO_CLEAR_DIFFERENCE: _no_clear_difference,
    Verdict.CANNOT_TELL: _cannot_tell,
    Verdict.UNDECIDABLE: _undecidable,
}


def _not_answerable(answer: Answer) -> str:
    if answer.detail.startswith("pruned"):
        planned = sum(len(each.settings) for each in answer.comparisons)
        left = sum(len(each.compared) for each in answer.comparisons)
        return f"The pruner stopped trials that this needs: {left} of {planned} settings can be compared."
    return f"{answer.detail[:1].upper()}{answer.detail[1:]}."


def _steps(claim: Claim, answer: Answer, terms: Terms) -> str:
    """A claim of several steps: what is known of each."""
    known = []
    for each in answer.comparisons:
        better, worse = (terms.level(each.factor, level) for level in (each.better, each.worse))
        sure = ", beyond chance" if each.is_clear else "" if each.low is None else ", within chance"
        known.append(f"{better} is ahead of {worse} by {terms.size(each.mean)}{sure}")
    average = " on average" if any(len(each.settings) > 1 for each in answer.comparisons) else ""
    why = (
        f" {answer.detail[:1].upper()}{answer.detail[1:]}."
        if answer.verdict in (Verdict.CANNOT_TELL, Verdict.UNDECIDABLE) and answer.detail
        else ""
    )
    return f"{claim.factor}{average}: {'; '.join(known)}.{why}"


def best_sentences(ranked: Sequence[Row], verdicts: Verdicts | None, terms: Terms) -> list[str]:
    """How sure the best cell is.

    Args:
        ranked: The rows that have a rank, the best first.
    """
    if not ranked or ranked[0].on_front is not None:
        return []
    if len(ranked) == 1:
        return ["It is the only cell with a final value."]
    if verdicts is None or not verdicts.candidates:
        n = count_text(len(ranked), "cell")
        return [
            f"How sure is open: no cell was repeated with another seed. The best of {n} that ran once is partly luck: "
            "expect it to do a little worse when it is trained again."
        ]
    chosen = verdicts.candidates[0]
    unit = f" {terms.unit}" if terms.unit else ""
    among = len(verdicts.candidates)
    sure = "Each other cell is worse beyond chance" if among == 1 else f"{among} cells may be the best (95 %)"
    return [
        f"Best with a probability of {percent(chosen.probability)}. {sure}.",
        f"Expected regret: {terms.size(chosen.regret)}{unit} behind the truly best one.",
    ]


def percent(probability: float) -> str:
    """A probability, never rounded to certainty."""
    if probability > 0.99:
        return f"{'over ' if probability > 0.995 else ''}99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"
