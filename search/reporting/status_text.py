"""What `status` prints: counts, leases, stale workers and what failed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from search.storage.database import Database
from search.storage.queries import TrialSummary, counts, trial_summaries
from search.study.formatting import describe_cell, loss_text


def status_as_json(database: Database, names: Sequence[str], retried: int | None) -> str:

    runs = [_finite(asdict(run)) for run in trial_summaries(database, names, ("running", "failed", "diverged"))]
    facts = {"studies": list(names), "counts": counts(database, names), "retried": retried, "trials": runs}
    return json.dumps(facts, indent=2)


def _finite(facts: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no NaN, which is what a diverged trial's loss is.
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}


def status_as_text(database: Database, names: Sequence[str], retried: int | None) -> str:

    lines = [] if retried is None else [f"{retried} failed trials are back in the queue"]
    for name in names:
        found = counts(database, [name])
        total = sum(found.values())
        lines.append(f"{name}: {total} trials; " + ", ".join(f"{count} {state}" for state, count in found.items()))
    running = trial_summaries(database, names, ("running",))
    again = [run for run in trial_summaries(database, names, ("waiting",)) if run.attempts]
    wrong = trial_summaries(database, names, ("failed", "diverged"))
    for title, runs, line in (
        ("running", running, _running),
        ("waiting for another attempt", again, _troubled),
        ("failed", wrong, _troubled),
    ):
        if runs:
            lines += ["", f"{title}:", *(f"  {line(run)}" for run in runs)]
    if wrong:
        lines.append("put them back with --retry-failed")
    return "\n".join(lines)


def _running(run: TrialSummary) -> str:

    left = run.lease_left_s or 0.0
    lease = f"lease ends in {left:.0f} s" if left > 0 else f"lease expired {-left:.0f} s ago: the worker is gone"
    loss = math.nan if run.val_loss is None else run.val_loss  # SQLite keeps NaN as NULL
    at = "no step yet" if run.step is None else f"step {run.step}, val_loss {loss_text(loss, 4)}"
    return f"{_trial(run)}: {at}; {run.owner}; {lease}"


def _troubled(run: TrialSummary) -> str:
    return f"{_trial(run)}: {run.reason or run.state}"


def _trial(run: TrialSummary) -> str:

    return f"{run.study} trial {run.number} ({describe_cell(run.cell)}), attempt {run.attempts}"
