"""What went wrong with a trial, as lines of text."""

from __future__ import annotations

import re
import time
from collections.abc import Hashable, Sequence

from search.hints import command_of
from search.storage.failures import Failure
from search.storage.queries import TrialSummary
from search.storage.texts import printable
from search.study.cells import without_seed
from search.study.formatting import count_text, describe_cell

TRACEBACK_LINES = 8  # the last ones; the log has the rest
MOST_SHOWN = 20  # of the different failures of a report
MOST_NUMBERS = 30  # of the trials that failed alike
MAX_LINE = 2_000
_PATH = re.compile(r"\S*/\S*")


def failure_title(trial: TrialSummary) -> str:
    """Which trial failed, and why."""
    return f"{trial_title(trial)}: {printable(trial.reason or trial.state, MAX_LINE)}"


def trial_title(trial: TrialSummary) -> str:
    """Which trial, with its cell and attempt; one that no worker has claimed has no attempt, and needs no seed."""
    cell = describe_cell(trial.shown_cell if trial.attempts else without_seed(trial.cell))
    title = f"{trial.study} trial {trial.number}" + (f" ({cell})" if cell else "")
    return f"{title}, attempt {trial.attempts}" if trial.attempts else title


def failure_lines(trial: TrialSummary) -> list[str]:
    """How, where and when the last attempt of a trial failed, its log, and the end of its traceback; perhaps none."""
    failure = trial.failure
    if failure is None:
        return []
    lines = [_headline(failure, trial.reason)]
    if failure.log is not None:
        lines.append(f"log: {failure.log}")
    if failure.artifact is not None:
        lines.append(f"log, as an artifact of the trial: {failure.artifact}")
    stack = [line for line in (failure.traceback or "").splitlines() if line.strip()]
    if len(stack) > TRACEBACK_LINES:
        stack = ["…", *stack[-TRACEBACK_LINES:]]
    return [printable(line, MAX_LINE) for line in [*lines, *(f"| {line}" for line in stack)]]


def _headline(failure: Failure, reason: str | None) -> str:
    ended = [
        *([failure.signal] if failure.signal is not None else []),
        *([f"exit status {failure.exit_status}"] if failure.exit_status is not None else []),
    ]
    facts = [failure.kind + (f" ({', '.join(ended)})" if ended else "")]
    # A crash's error repeats its signal, and often the reason is the error.
    if failure.error is not None and not ended and failure.error != reason:
        facts[0] += f": {failure.error}"
    if failure.attempt is not None:
        facts.append(f"attempt {failure.attempt}")
    if failure.step is not None:
        facts.append(f"after step {failure.step}")
    if failure.worker is not None or failure.host is not None:
        facts.append(f"worker {failure.worker}" if failure.worker is not None else f"host {failure.host}")
    if failure.at is not None:
        facts.append(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(failure.at)))
    return ", ".join(facts)


def silence_text(trial: TrialSummary) -> str:
    """Why the lease of a running trial has expired.

    Args:
        trial: A running trial whose `lease_left_s` is not positive.
    """
    failure = trial.failure
    if failure is not None and failure.worker == trial.owner and failure.kind != "lease lost":
        how = failure.signal or ("" if failure.exit_status is None else f"exit status {failure.exit_status}")
        return f"{failure.kind}{f' ({how})' if how else ''}; another worker can resume it"
    silent_s = -(trial.lease_left_s or 0.0)
    return f"lease expired {duration_text(silent_s)} ago: its worker is silent; another worker can resume it"


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def failure_groups(trials: Sequence[TrialSummary]) -> list[list[TrialSummary]]:
    """Trials that failed alike together; the groups and their trials are in the given order."""
    groups: dict[Hashable, list[TrialSummary]] = {}
    for trial in trials:
        kind = None if trial.failure is None else trial.failure.kind
        # A path names the trial.
        reason = _PATH.sub("/", trial.reason or trial.state)
        groups.setdefault((trial.study, kind, reason), []).append(trial)
    return list(groups.values())


def group_lines(group: Sequence[TrialSummary]) -> list[str]:
    """As `failure_lines` of the first trial of a group, with the numbers of the others."""
    first, *others = group
    if not others:
        return failure_lines(first)
    numbers = ", ".join(str(trial.number) for trial in others[:MOST_NUMBERS])
    more = ", …" if len(others) > MOST_NUMBERS else ""
    return [*failure_lines(first), f"the same in {count_text(len(others), 'more trial')}: {numbers}{more}"]


def failures_as_markdown(trials: Sequence[TrialSummary]) -> str:
    """A section on failed trials; "" without any."""
    if not trials:
        return ""
    blocks = ["## Failed trials"]
    groups = failure_groups(trials)
    for group in groups[:MOST_SHOWN]:
        text = "\n".join([failure_title(group[0]), *group_lines(group)])
        # Indented text is shown as it is, whatever it contains.
        blocks.append("\n".join(f"    {line}" for line in text.splitlines()))
    if len(groups) > MOST_SHOWN:
        blocks.append(f"{len(groups) - MOST_SHOWN} more; `{command_of('status')} --json` has all.")
    return "\n\n".join(blocks)
