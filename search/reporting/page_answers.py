"""The claims of a study as the page answers them: a sentence, what it depends on, and a forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from search.reporting.forest import forest_plot
from search.reporting.plain_answers import plain_answer
from search.reporting.report_data import ReportData
from search.statistics.answers import EVERYWHERE, ON_AVERAGE
from search.statistics.claim_answers import Answer, claimed_levels
from search.statistics.comparison import Comparison, Levels
from search.statistics.conditions import held_fixed, moves_along
from search.study.claims import Claim

# Forest plots of one page.
MOST_PLOTS = 60


@dataclass(frozen=True)
class ClaimAnswer:
    """A claim and its answer.

    Attributes:
        claim: In words.
        kind: Of the verdict, for its colour: "yes", "only_where", …
        verdict: The word, with where it holds if that is short.
        plain: The answer in one sentence.
        moves: What else differs between the compared values; "" for nothing.
        detail: The answer with its figures; "" if that is the sentence.
        plots: A forest plot of each comparison, and a note below it.
    """

    claim: str
    kind: str
    verdict: str
    plain: str
    moves: str
    detail: str
    plots: Sequence[tuple[str, Markup, str]]


def claim_answers(report_data: ReportData) -> list[ClaimAnswer]:
    """The answers to the claims of a study, in their order."""
    verdicts, terms, left = report_data.verdicts, report_data.terms, MOST_PLOTS
    found: list[ClaimAnswer] = []
    for claim, answer in zip(report_data.stored.claims, () if verdicts is None else verdicts.answers, strict=False):
        plain = plain_answer(claim, answer, terms)
        plots = _plots(report_data, claim, answer)[:left]
        left -= len(plots)
        short = answer.detail in ("", EVERYWHERE, ON_AVERAGE)
        found.append(
            ClaimAnswer(
                claim=answer.claim,
                kind=answer.verdict.name.lower(),
                verdict=answer.words if short else str(answer.verdict),
                plain=plain,
                moves=moves_along(claimed_levels(claim), report_data.rows),
                detail=answer.sentence if answer.sentence != plain else "",
                plots=plots,
            )
        )
    return found


def fixed_settings(report_data: ReportData) -> str:
    """What all answers hold fixed; "" if that is not known."""
    return held_fixed(report_data.stored)


def _plots(report_data: ReportData, claim: Claim, answer: Answer) -> list[tuple[str, Markup, str]]:
    comparisons: Sequence[Comparison] = answer.comparisons
    if not comparisons and report_data.verdicts is not None:
        keys = {levels.key for levels in claimed_levels(claim)}
        listed = (each.comparisons[0] for each in report_data.verdicts.comparisons)
        comparisons = [each for each in listed if _key(each) in keys]
    plots = []
    for each in comparisons:
        names = (report_data.value(each.factor, each.better), report_data.value(each.factor, each.worse))
        image, note = forest_plot(each, names, [_setting(report_data, each, setting.rest) for setting in each.settings])
        plots.append((f"{names[0]} against {names[1]}", image, note))
    return plots


def _key(comparison: Comparison) -> str:
    return Levels(comparison.factor, comparison.better, comparison.worse).key


def _setting(report_data: ReportData, comparison: Comparison, rest: Mapping[str, Any]) -> str:
    """The values of a setting, without those that all settings share."""
    settings = comparison.settings
    parts = [
        f"{axis} {report_data.value(axis, value)}"
        for axis, value in rest.items()
        if any(each.rest.get(axis) != value for each in settings)
    ]
    return ", ".join(parts) or "the difference"
