"""The output of `status`: counts, leases, stale workers and failed trials."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from search.reporting.tables import finite
from search.storage.database import Database
from search.storage.queries import TrialSummary, counts, trial_summaries
from search.storage.texts import printable
from search.study.formatting import count_text, describe_cell, loss_text

# Trials of a kind; --json has all.
MAX_TRIALS = 50


def status_as_json(database: Database, names: Sequence[str], retried: int | None) -> str:
    """The status as one JSON object.

    Args:
        names: The study, and its sibling with the baselines if that is included.
        retried: The number of failed trials that were put back in the queue; None if that was not requested.
    """
    trials = [finite(asdict(trial)) for trial in trial_summaries(database, names, ("running", "failed", "diverged"))]
    facts = {"studies": list(names), "counts": counts(database, names), "retried": retried, "trials": trials}
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
    running = trial_summaries(database, names, ("running",))
    retrying = [trial for trial in trial_summaries(database, names, ("waiting",)) if trial.attempts]
    failed = trial_summaries(database, names, ("failed", "diverged"))
    for title, trials, line in (
        ("running", running, _running),
        ("waiting for another attempt", retrying, _with_reason),
        ("failed", failed, _with_reason),
    ):
        if trials:
            lines += ["", f"{title}:", *(f"  {line(trial)}" for trial in trials[:MAX_TRIALS])]
            lines += [f"  and {len(trials) - MAX_TRIALS} more"] if len(trials) > MAX_TRIALS else []
    if failed:
        lines.append("retry them with --retry-failed")
    return "\n".join(lines)


def _running(trial: TrialSummary) -> str:
    left = trial.lease_left_s or 0.0
    lease = f"lease ends in {left:.0f} s" if left > 0 else f"lease expired {-left:.0f} s ago: its worker has stopped"
    loss = math.nan if trial.val_loss is None else trial.val_loss  # SQLite stores NaN as NULL
    at = "no step yet" if trial.step is None else f"step {trial.step}, val_loss {loss_text(loss, 4)}"
    return f"{_trial(trial)}: {at}; {trial.owner}; {lease}"


def _with_reason(trial: TrialSummary) -> str:
    return f"{_trial(trial)}: {printable(trial.reason or trial.state, 2_000)}"


def _trial(trial: TrialSummary) -> str:
    return f"{trial.study} trial {trial.number} ({describe_cell(trial.cell)}), attempt {trial.attempts}"
