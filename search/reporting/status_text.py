"""The output of `status`: counts, leases, stale workers and failed trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from search.objectives.command.output import LOG_ATTRIBUTE, where_and_last_line
from search.reporting.cost_text import run_as_dict, run_sentence
from search.reporting.failure_text import (
    duration_text,
    failure_groups,
    failure_title,
    group_lines,
    silence_text,
    trial_title,
)
from search.reporting.missing_text import budget_line, not_run_line
from search.reporting.tables import finite
from search.storage.database import Database
from search.storage.process_costs import run_cost
from search.storage.queries import TrialSummary, counts, trial_summaries
from search.storage.spending import Spent, spent_on
from search.study.formatting import count_text, loss_text
from search.study.lookup import with_siblings
from search.study.stored import StoredStudy, read_stored_study

# Trials of a kind, of those that failed alike one; --json has all.
MAX_BLOCKS = 50


def status_as_json(database: Database, names: Sequence[str], retried: int | None) -> str:
    """The status as one JSON object.

    Args:
        names: The study, and its sibling with the baselines if that is included.
        retried: The number of failed trials that were put back in the queue; None if that was not requested.
    """
    trials = [finite(asdict(trial)) for trial in trial_summaries(database, names, ("running", "failed", "diverged"))]
    facts: dict[str, Any] = {
        "studies": list(names),
        "counts": counts(database, names),
        "cost": None if (run := run_cost(database, names)) is None else run_as_dict(run),
        "retried": retried,
        "trials": trials,
    }
    stored = read_stored_study(database, names[0])
    if stored is not None and stored.budget is not None:
        facts |= {"budget": stored.budget.as_dict(), "spent": asdict(_spent(database, stored))}
    return json.dumps(facts, indent=2)


def status_as_text(database: Database, names: Sequence[str], retried: int | None) -> str:
    """The status as lines of text; arguments as for `status_as_json`."""
    lines = (
        [] if retried is None else [f"{count_text(retried, 'failed trial is', 'failed trials are')} back in the queue"]
    )
    for name in names:
        found = counts(database, [name])
        total = sum(found.values())
        lines.append(
            f"{name}: {count_text(total, 'trial')}; " + ", ".join(f"{count} {state}" for state, count in found.items())
        )
        lines += filter(None, [not_run_line(found, name)])
    stored = read_stored_study(database, names[0])
    assert stored is not None, "open_studies checked that it exists"
    if not stored.is_made_by_optuna:
        lines.append(_limits(stored))
    if stored.budget is not None:
        lines.append(budget_line(stored.budget, _spent(database, stored), counts(database, names)))
    if (run := run_cost(database, names)) is not None:
        lines.append(run_sentence(run))
    if stored.settings.auto_seeds is not None and stored.open_questions:
        lines.append(
            f"open when seeds were last planned: {'; '.join(each.rstrip('.') for each in stored.open_questions)}"
        )
    running = trial_summaries(database, names, ("running",), (LOG_ATTRIBUTE,))
    retrying = [trial for trial in trial_summaries(database, names, ("waiting",)) if trial.attempts]
    failed = trial_summaries(database, names, ("failed", "diverged"))
    name = stored.definition.metric.name
    for title, blocks in (
        ("running", [[_running(trial, name), *_output(trial)] for trial in running]),
        ("waiting for another attempt", _failures(retrying)),
        ("failed", _failures(failed)),
    ):
        if blocks:
            lines += ["", f"{title}:"]
        for first, *more in blocks[:MAX_BLOCKS]:
            lines += [f"  {first}", *(f"    {each}" for each in more)]
        lines += [f"  and {len(blocks) - MAX_BLOCKS} more"] if len(blocks) > MAX_BLOCKS else []
    if failed and not stored.is_made_by_optuna:
        lines.append("retry them with --retry-failed")
    return "\n".join(lines)


def _spent(database: Database, stored: StoredStudy) -> Spent:
    return spent_on(database, with_siblings(database, stored.name))


def _failures(trials: Sequence[TrialSummary]) -> list[list[str]]:
    return [[failure_title(group[0]), *group_lines(group)] for group in failure_groups(trials)]


def _limits(stored: StoredStudy) -> str:
    limits = {
        "trial_timeout_s": stored.settings.workers.trial_timeout_s,
        "stall_timeout_s": stored.settings.workers.stall_timeout_s,
    }
    texts = (f"{key} {'off' if limit == 0 else duration_text(limit)}" for key, limit in limits.items())
    return f"time limits: {', '.join(texts)}"


def _output(trial: TrialSummary) -> list[str]:
    """What the program of a running trial printed last."""
    attribute = trial.attrs.get(LOG_ATTRIBUTE)
    if not isinstance(attribute, Mapping) or not attribute.keys() >= {"host", "path"}:
        return []  # not ours
    return [where_and_last_line(attribute)]


def _running(trial: TrialSummary, name: str) -> str:
    parts = []
    if trial.owner is not None and trial.lease_left_s is not None:
        left = trial.lease_left_s
        parts = [trial.owner, f"lease ends in {duration_text(left)}" if left > 0 else silence_text(trial)]
    loss = math.nan if trial.val_loss is None else trial.val_loss  # SQLite stores NaN as NULL
    at = "no step yet" if trial.step is None else f"step {trial.step}, {name} {loss_text(loss, 4)}"
    return f"{trial_title(trial)}: {'; '.join([at, *parts])}"
