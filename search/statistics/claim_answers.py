"""The answer to a claim: its verdict, where it holds, and why."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.statistics.answers import Finding, Verdict, combined, finding
from search.statistics.comparison import Comparison, Levels
from search.statistics.losses import Losses
from search.statistics.sentences import finding_sentence, only_where
from search.storage.texts import printable, shortened
from search.storage.values import canonical
from search.study.claims import Claim
from search.study.formatting import axis_digits, describe_level

# Characters of a claim, and of the sentences that answer it.
MAX_CLAIM = 4_000


@dataclass(frozen=True)
class Answer:
    """The verdict on one claim.

    Attributes:
        claim: The claim as text.
        verdict: The word.
        detail: What belongs to it: where it holds, or why it is open; "" for nothing.
        sentence: The reason.
        comparisons: The comparisons that the verdict is based on.
        conditions: What they hold fixed and what moves along, as text; "" if nothing is known.
    """

    claim: str
    verdict: Verdict
    detail: str
    sentence: str
    comparisons: tuple[Comparison, ...] = ()
    conditions: str = ""

    @property
    def words(self) -> str:
        """The verdict in full, such as "only where n_embd is 64"."""
        if self.verdict is Verdict.ONLY_WHERE:
            return f"only where {self.detail}"
        if not self.detail:
            return str(self.verdict)
        in_brackets = self.verdict not in (Verdict.YES, Verdict.OPPOSITE)
        return f"{self.verdict} ({self.detail})" if in_brackets else f"{self.verdict}, {self.detail}"


def claimed_levels(claim: Claim) -> list[Levels]:
    """What a claim compares, the value that it expects to be better first."""
    if claim.cells:
        return [Levels("cell", *claim.cells)]
    pairs = itertools.pairwise(claim.order) if claim.order else itertools.combinations(claim.not_always, 2)
    return [Levels(claim.factor or "", *pair) for pair in pairs]


def listed_answer(comparison: Comparison, losses: Losses) -> Answer:
    """A comparison that no claim asks for."""
    claim = Claim(factor=comparison.factor, order=[comparison.better, comparison.worse])
    return steps_answer(claim, [finding(comparison.better, comparison)], losses)


def steps_answer(claim: Claim, findings: Sequence[Finding], losses: Losses) -> Answer:
    """The answer to a claim all of whose steps must hold."""
    verdict, detail = combined(findings)
    if verdict is Verdict.ONLY_WHERE:
        detail = _where(findings, losses)
    sentence = " ".join(finding_sentence(each, losses) for each in findings)
    return made_answer(claim, verdict, detail, sentence, findings)


def made_answer(claim: Claim, verdict: Verdict, detail: str, sentence: str, findings: Sequence[Finding]) -> Answer:
    comparisons = tuple(each.comparison for each in findings if each.comparison is not None)
    return Answer(in_words(claim), verdict, shortened(detail, MAX_CLAIM), shortened(sentence, MAX_CLAIM), comparisons)


def _where(findings: Sequence[Finding], losses: Losses) -> str:
    """Where a claim holds of which some step holds, or does not hold, in some settings only."""
    if len(findings) == 1:
        return only_where(findings[0], losses)
    holds, not_so = [], []
    for found in findings:
        step = _step(found, losses)
        if found.verdict is Verdict.YES:
            holds.append(f"{step} ({found.detail})" if found.detail else step)
        elif found.verdict is Verdict.ONLY_WHERE:
            holds.append(f"{step} (where {only_where(found, losses)})")
        else:
            not_so.append(f"{step} ({', '.join(filter(None, [str(found.verdict), found.detail]))})")
    texts = [", ".join(holds), f"not {', '.join(not_so)}" if not_so else ""]
    return ", but ".join(filter(None, texts))


def _step(found: Finding, losses: Losses) -> str:
    assert found.comparison is not None, "it was compared"
    factor = found.comparison.factor
    return f"{losses.describe(factor, found.first)} over {losses.describe(factor, found.other)}"


def not_always_answer(claim: Claim, findings: Sequence[Finding], losses: Losses) -> Answer:
    """Yes if a value that is expected to be better is worse beyond chance, in one setting or on average."""
    found = [(each, _contradictions(each)) for each in findings]
    against = [(each, where) for each, where in found if where]
    sentences = []
    for each, where in against:
        assert each.comparison is not None
        factor, settings = each.comparison.factor, each.comparison.settings
        one, other = (losses.describe(factor, value) for value in (each.first, each.other))
        sentences.append(
            f"{factor} {one} is worse than {other} in {len(where)} of {len(settings)} settings beyond chance."
        )
    if against:
        return made_answer(claim, Verdict.YES, "", " ".join(sentences), findings)
    verdict, detail = combined(findings)
    if verdict is Verdict.YES and all(each.detail in ("", "everywhere") for each in findings):
        return made_answer(claim, Verdict.OPPOSITE, "the order holds everywhere", " ".join(sentences), findings)
    if verdict is not Verdict.NOT_ANSWERABLE:
        verdict, detail = Verdict.CANNOT_TELL, detail if verdict is Verdict.CANNOT_TELL else ""
    sentence = " ".join(finding_sentence(each, losses) for each in findings)
    return made_answer(claim, verdict, detail, sentence, findings)


def _contradictions(found: Finding) -> list[Mapping[str, Any]]:
    """The settings in which the first level is worse beyond chance."""
    if found.comparison is None or found.verdict is Verdict.NOT_ANSWERABLE:
        return []
    sign = 1 if canonical(found.comparison.better) == canonical(found.first) else -1
    return [each.rest for each in found.comparison.settings if each.sign == -sign]


def in_words(claim: Claim) -> str:
    """A claim as text: its `text`, or a sentence made from its values."""
    if claim.text:
        return printable(claim.text, MAX_CLAIM)
    if claim.cells:
        digits = axis_digits(claim.cells)
        return " is better than ".join(describe_level("cell", cell, digits) for cell in claim.cells)
    values, words = (claim.order, "better") if claim.order else (claim.not_always, "not always better")
    factor = claim.factor or ""
    digits = axis_digits({factor: value} for value in values)
    texts = [describe_level(factor, value, digits) for value in values]
    if claim.along is not None:
        return f"{factor}: the gain of {texts[0]} over {texts[1]} {claim.change} along {claim.along}"
    return shortened(f"{factor}: {f' is {words} than '.join(texts)}", MAX_CLAIM)
