"""What differs between two trials or two studies, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from search.reporting.tables import finite
from search.storage.texts import printable
from search.study.differences import Difference
from search.study.formatting import count_text
from search.study.trial_differences import CurveParting, TrialDifferences

# Characters of a value beside another one; --json has all.
MAX_VALUE = 60


def shown_value(value: object, most: int = MAX_VALUE) -> str:
    """A value with all digits, so that two that differ look different."""
    return "none" if value is None else printable(value, most)


def shown_pair(difference: Difference, most: int = MAX_VALUE) -> tuple[str, str]:
    """Both values of a difference; whole where shortening hides what differs."""
    first, second = (shown_value(each, most) for each in (difference.first, difference.second))
    return (first, second) if first != second else shown_pair(difference, 4 * most) if most < 1e6 else (first, second)


def trials_as_json(found: TrialDifferences) -> str:
    """The differences as one JSON object."""
    return json.dumps(finite(found.as_dict()), indent=2)


def trials_as_text(found: TrialDifferences) -> str:
    """The differences as lines of text."""
    one, other = found.first.title, found.second.title
    lines = [f"{one} (A) and {other} (B): {count_text(len(found.differences), 'difference')}"]
    lines += differences_as_text(found.differences)
    lines += ["", f"curves: {curves_text(found.curves)}"]
    lines += [f"the same: {', '.join(found.same)}"] if found.same else []
    lines += [
        f"{each.title} is {each.summary.state} and has no record of code, versions and machine"
        for each in found.without_environment
    ]
    return "\n".join(lines)


def differences_as_text(differences: Sequence[Difference], columns: tuple[str, str] = ("A", "B")) -> list[str]:
    """The differences as aligned lines, group by group."""
    pairs = [shown_pair(each) for each in differences]
    width = max((len(each.name) for each in differences), default=0)
    first = max((len(pair[0]) for pair in (columns, *pairs)), default=0)
    lines = [f"{'':{width}}    {columns[0]:{first}}  {columns[1]}"] if differences else []
    group = ""
    for each, pair in zip(differences, pairs, strict=True):
        lines += [] if each.group == group else [each.group]
        group = each.group
        lines.append(f"  {each.name:{width}}  {pair[0]:{first}}  {pair[1]}".rstrip())
    return lines


def curves_text(curves: CurveParting) -> str:
    """Where two curves part, in a sentence."""
    ends = ["none" if last is None else f"step {last}" for last in curves.last]
    if not curves.common:
        return f"no step in common; the last step of A is {ends[0]}, of B {ends[1]}"
    steps = count_text(curves.common, "common step")
    if curves.parts_at is None or curves.values is None:
        ended = "" if ends[0] == ends[1] else f"; A ends at {ends[0]}, B at {ends[1]}"
        return f"equal at all {steps}, up to step {curves.equal_until}{ended}"
    one, other = ("not finite" if each is None else shown_value(each) for each in curves.values)
    before = "" if curves.equal_until is None else f"equal up to step {curves.equal_until}, "
    return f"{before}they part at step {curves.parts_at}: A {one}, B {other}; {steps}"
