"""The words of a verdict, and what decides between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from search.statistics.comparison import (
    BETTER_DIVERGED,
    BOTH_DIVERGED,
    PRUNED,
    UNFINISHED,
    WORSE_DIVERGED,
    Comparison,
    Setting,
)
from search.storage.values import canonical


class Verdict(StrEnum):
    """What the results decide about a claim."""

    YES = "yes"
    ONLY_WHERE = "only where"
    OPPOSITE = "no, the opposite"
    NO_CLEAR_DIFFERENCE = "no clear difference"
    CANNOT_TELL = "cannot tell yet"
    UNDECIDABLE = "not decidable within the budget"
    NOT_ANSWERABLE = "not answerable"


EVERYWHERE, ON_AVERAGE = "everywhere", "on average"


@dataclass(frozen=True)
class Finding:
    """What one comparison decides about "the first is better than the other".

    Attributes:
        first: The level or cell that the claim expects to be better.
        comparison: The comparison; None if the study has no pair of cells to compare.
        verdict: The word.
        detail: What belongs to the word: "everywhere", "on average", a reason; "" for none.
        settings: Where the first is better beyond chance, if `verdict` is "only where".
    """

    first: Any
    comparison: Comparison | None
    verdict: Verdict
    detail: str = ""
    settings: Sequence[Setting] = ()

    @property
    def other(self) -> Any:
        """The level or cell that the first is compared with."""
        assert self.comparison is not None, "without a comparison there is no other"
        is_better = canonical(self.comparison.better) == canonical(self.first)
        return self.comparison.worse if is_better else self.comparison.better


def finding(first: Any, comparison: Comparison | None, missing: str = "") -> Finding:
    """Decide about one comparison.

    Args:
        first: The level or cell that is expected to be better.
        comparison: None if the study has no pair of cells to compare.
        missing: Why there is none.
    """
    if comparison is None:
        return Finding(first, None, Verdict.NOT_ANSWERABLE, missing)
    found = _without_intervals(first, comparison)
    return _decided(first, comparison) if found is None else found


def _without_intervals(first: Any, comparison: Comparison) -> Finding | None:
    """What is decided before any number is looked at."""
    planned, compared = len(comparison.settings), len(comparison.compared)
    if comparison.in_state(PRUNED):
        return Finding(first, comparison, Verdict.NOT_ANSWERABLE, f"pruned: {compared} of {planned} settings are left")
    if unfinished := comparison.in_state(UNFINISHED):
        return Finding(
            first, comparison, Verdict.CANNOT_TELL, f"{len(unfinished)} of {planned} settings are not finished"
        )
    if len(comparison.in_state(BOTH_DIVERGED)) == planned:
        return Finding(first, comparison, Verdict.NOT_ANSWERABLE, "trials of both diverged or failed")
    if compared and comparison.low is None:
        return Finding(first, comparison, Verdict.CANNOT_TELL, "one seed a cell")
    return None


def _decided(first: Any, comparison: Comparison) -> Finding:
    sign = 1 if canonical(comparison.better) == canonical(first) else -1
    lost, won = (BETTER_DIVERGED, WORSE_DIVERGED)[::sign]
    single = len(comparison.compared) == 1
    average = (sign if comparison.is_clear else 0) if comparison.compared else 0
    better = [each for each in comparison.settings if each.state == won or _sign(each, single, average, sign) > 0]
    worse = [each for each in comparison.settings if each.state == lost or _sign(each, single, average, sign) < 0]
    if better and worse:
        return Finding(first, comparison, Verdict.ONLY_WHERE, "", better)
    if not worse and len(better) == len(comparison.settings):
        return Finding(first, comparison, Verdict.YES, EVERYWHERE if len(better) > 1 else "", better)
    if not better and len(worse) == len(comparison.settings):
        return Finding(first, comparison, Verdict.OPPOSITE, EVERYWHERE if len(worse) > 1 else "")
    if comparison.is_negligible and not worse and not any(each.state == won for each in better):
        return Finding(first, comparison, Verdict.NO_CLEAR_DIFFERENCE, f"less than {comparison.margin:g}")
    if average > 0 and not worse:
        return Finding(first, comparison, Verdict.YES, ON_AVERAGE, better)
    if average < 0 and not better:
        return Finding(first, comparison, Verdict.OPPOSITE, ON_AVERAGE)
    return Finding(first, comparison, Verdict.CANNOT_TELL)


def _sign(setting: Setting, single: bool, average: int, sign: int) -> int:
    """1 if the first level is better in a setting beyond chance, -1 if it is worse."""
    return average if single and setting.mean is not None else sign * setting.sign


def combined(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """The verdict on a claim of several steps: yes if each step is, and no step may be open."""
    verdicts = [each.verdict for each in findings]
    for open_verdict in (Verdict.NOT_ANSWERABLE, Verdict.CANNOT_TELL):
        if open_verdict in verdicts:
            return open_verdict, next(each.detail for each in findings if each.verdict == open_verdict)
    if len(set(verdicts)) == 1 and verdicts[0] != Verdict.ONLY_WHERE:
        details = {each.detail for each in findings}
        return verdicts[0], details.pop() if len(details) == 1 else ON_AVERAGE
    return Verdict.ONLY_WHERE, ""
