"""Comparisons and verdicts as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.statistics.answers import Finding, Verdict
from search.statistics.comparison import BETTER_DIVERGED, BOTH_DIVERGED, WORSE_DIVERGED, Comparison, Setting
from search.statistics.losses import Losses
from search.storage.values import canonical
from search.study.formatting import count_text, loss_text

# So many settings are named one by one.
MAX_NAMED = 3


def comparison_sentence(comparison: Comparison, losses: Losses) -> str:
    """What a comparison found, without a verdict.

    Args:
        losses: What was compared, for the names of levels and of the metric.
    """
    better, worse = (losses.describe(comparison.factor, each) for each in (comparison.better, comparison.worse))
    name = "" if comparison.factor == "cell" else f"{comparison.factor} "
    if not comparison.compared:
        return " ".join([f"{name}{better} and {worse}: no setting has both.", *_diverged(comparison, better, worse)])
    metric = losses.metric
    by = f"{name}{better} has a {metric.better} {metric.label} than {worse}, by {loss_text(comparison.mean, 4)}"
    if comparison.low is not None and comparison.high is not None:
        by += f" [{loss_text(comparison.low, 4)}, {loss_text(comparison.high, 4)}]"
    compared, planned = len(comparison.compared), len(comparison.settings)
    if planned == 1:
        one, other = comparison.compared[0].seeds
        return f"{by}, with {_seeds(one, other)}."
    settings = f"{compared} settings" if compared == planned else f"{compared} of {planned} planned settings"
    counts = [count for each in comparison.compared for count in each.seeds]
    seeds = count_text(min(counts), "seed") if len({*counts}) == 1 else f"{min(counts)} to {max(counts)} seeds"
    sentences = [f"{by}, on average over {settings} with {seeds} a cell, and in {comparison.agree} of them."]
    sentences += _alone(comparison, losses)
    if comparison.is_clear and comparison.general is not None and comparison.general[0] <= 0:
        least, most = (loss_text(end, 4) for end in comparison.general)
        sentences.append(f"In further settings like these it may be otherwise [{least}, {most}].")
    if comparison.is_clear and comparison.influential is not None and comparison.without is not None:
        where = setting_text(comparison.influential, comparison.settings, losses)
        sentences.append(
            f"One setting makes half of it or more, {where}: without it {loss_text(comparison.without, 4)}."
        )
    return " ".join([*sentences, *_diverged(comparison, better, worse)])


def _seeds(one: int, other: int) -> str:
    return count_text(one, "seed") + " each" if one == other else f"{one} and {other} seeds"


def _alone(comparison: Comparison, losses: Losses) -> list[str]:
    """In which settings the difference shows by itself."""
    shown = [each for each in comparison.compared if each.sign > 0]
    against = [each for each in comparison.compared if each.sign < 0]
    found = []
    if shown and len(shown) < len(comparison.compared):
        found.append(f"By themselves {len(shown)} show it: {where_text(shown, comparison.settings, losses)}.")
    if against:
        found.append(f"The opposite holds where {where_text(against, comparison.settings, losses)}.")
    return found


def _diverged(comparison: Comparison, better: str, worse: str) -> list[str]:
    counts = {
        better: len(comparison.in_state(BETTER_DIVERGED)),
        worse: len(comparison.in_state(WORSE_DIVERGED)),
        "both": len(comparison.in_state(BOTH_DIVERGED)),
    }
    return [
        f"In {count_text(number, 'setting')} trials of {name} diverged or failed, which counts as worse than any value."
        for name, number in counts.items()
        if number
    ]


def detectable_sentence(comparison: Comparison) -> str:
    """Which differences more seeds would show; "" with fewer than three seeds a cell."""
    if comparison.detectable is None:
        return ""
    low, high = (loss_text(size, 4) for size in comparison.detectable)
    return f"With {comparison.detectable_seeds} seeds a cell, a difference of {low} to {high} would show."


def finding_sentence(found: Finding, losses: Losses) -> str:
    """One step of a claim: its verdict, and why."""
    if found.comparison is None:
        return f"{found.detail[:1].upper()}{found.detail[1:]}."
    sentence = comparison_sentence(found.comparison, losses)
    if found.verdict is Verdict.CANNOT_TELL:
        if found.detail:
            return f"{sentence} Open: {found.detail}."
        return " ".join(filter(None, [sentence, "Chance can explain it.", detectable_sentence(found.comparison)]))
    if found.verdict is Verdict.NOT_ANSWERABLE:
        planned = len(found.comparison.settings)
        return f"{len(found.comparison.compared)} of {planned} planned settings can be compared ({found.detail})."
    return sentence


def only_where(found: Finding, losses: Losses) -> str:
    """The settings of a verdict "only where"."""
    assert found.comparison is not None
    return where_text(found.settings, found.comparison.settings, losses)


def where_text(shown: Sequence[Setting], planned: Sequence[Setting], losses: Losses) -> str:
    """Some settings in a few words: by one axis whose values tell them apart, if there is one.

    Args:
        shown: The settings.
        planned: All settings.
    """
    others = [each for each in planned if each not in shown]
    for axis in losses.factors:
        values = {canonical(each.rest.get(axis)): each.rest.get(axis) for each in shown if axis in each.rest}
        if values and others and not {canonical(each.rest.get(axis)) for each in others} & values.keys():
            return f"{axis} is {' or '.join(losses.describe(axis, value) for value in values.values())}"
    named = [setting_text(each.rest, planned, losses) for each in shown[:MAX_NAMED]]
    more = [f"{len(shown) - MAX_NAMED} more"] if len(shown) > MAX_NAMED else []
    return "; ".join([*named, *more])


def setting_text(rest: Mapping[str, Any], planned: Sequence[Setting], losses: Losses) -> str:
    """The values of a setting, without those that all settings share."""
    parts = [
        f"{axis} {losses.describe(axis, value)}"
        for axis, value in rest.items()
        if any(each.rest.get(axis) != value for each in planned)
    ]
    return ", ".join(parts) or "the only setting"
