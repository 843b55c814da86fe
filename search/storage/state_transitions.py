"""How a trial in the queue ends, and how an ended one is reset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Update, and_, bindparam, func, select, update

from search.storage import optuna_queries, optuna_states
from search.storage.failures import Failure
from search.storage.leases import Lease, held, held_values
from search.storage.schema import queue_table

Outcome = Literal["complete", "pruned", "diverged", "failed"]

OPTUNA_STATE: dict[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
_OUTCOME: dict[TrialState, Outcome] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
ENDED_ELSEWHERE = "ended by another program, such as the dashboard"
NOT_FINITE = "its value is not finite"
# A trial as it was planned, except for its token, which keeps counting: no earlier lease becomes valid again.
FRESH: dict[str, Any] = {
    "state": "waiting",
    "attempts": 0,
    "lost_leases": 0,
    "not_before": 0.0,
    **dict.fromkeys(("owner", "lease_until", "started_at", "finished_at")),
    **dict.fromkeys(("step", "highest_step", "step_at_claim", "train_loss", "val_loss")),
    **dict.fromkeys(("outcome", "value", "reason", "failure")),
}


def outcome_of(outcome: Outcome, values: Sequence[float], reason: str | None = None) -> tuple[Outcome, str | None]:
    """What a trial with these values has come to, and why: one that is complete with an infinite value has diverged.

    Optuna counts it as complete, and samplers learn from it; but a mean or a difference of such values says nothing.
    """
    is_finite = outcome != "complete" or all(map(math.isfinite, values))
    return (outcome, reason) if is_finite else ("diverged", NOT_FINITE)


def _ending(which: ColumnElement[bool]) -> Update:
    new = {
        name: bindparam(f"new_{name}", type_=queue_table.c[name].type)
        for name in ("outcome", "value", "reason", "finished_at", "failure")
    }
    recorded = {"failure": func.coalesce(new["failure"], queue_table.c.failure)}
    return update(queue_table).where(which).values(state="done", lease_until=None, **{**new, **recorded})


# Built once: building it takes longer than running it.
_END_HELD = _ending(held)


def end_trials(
    connection: Connection,
    which: ColumnElement[bool] | Lease,
    outcome: Outcome,
    value: float | None,
    reason: str | None,
    now: float,
    failure: Failure | None = None,
) -> bool:
    """End trials, in the queue only.

    Args:
        which: A condition, or the lease of one trial, which must be valid.
        failure: What to record; None keeps an earlier record.

    Returns:
        False when none match.
    """
    new = {
        "new_outcome": outcome,
        "new_value": nan_to_none(value),
        "new_reason": reason,
        "new_finished_at": now,
        "new_failure": None if failure is None else failure.to_json(),
    }
    if isinstance(which, Lease):
        return connection.execute(_END_HELD, {**held_values(which), **new}).rowcount > 0
    return connection.execute(_ending(which), new).rowcount > 0


def end_as_elsewhere(connection: Connection, which: ColumnElement[bool], now: float) -> bool:
    """End the row that matches `which` as another program has ended its Optuna trial.

    Returns:
        False when no row matches, or its trial has not ended.
    """
    row = connection.execute(select(queue_table).where(which)).first()
    found = [] if row is None else optuna_queries.read_trials(connection, [row.trial_id])
    if row is None or not found or not found[0].state.is_finished():
        return False
    # A trial of a study with several objectives has no single value.
    values = found[0].values if found[0].state == TrialState.COMPLETE else None
    outcome, _ = outcome_of(_OUTCOME.get(found[0].state, "failed"), values or ())
    failure = Failure("failed from outside").of_attempt(row.owner, row.attempts, row.step, now)
    recorded = failure if outcome == "failed" else None
    return end_trials(connection, which, outcome, values[0] if values else None, ENDED_ELSEWHERE, now, recorded)


def retry_failed(connection: Connection, uids: Sequence[str]) -> int:
    """Return the failed and diverged trials of studies to the queue as they were planned; returns their number."""
    failed = and_(queue_table.c.study_uid.in_(uids), queue_table.c.outcome.in_(("failed", "diverged")))
    again = connection.execute(update(queue_table).where(failed).values(FRESH).returning(queue_table.c.trial_id))
    trial_ids = again.scalars().all()
    for trial_id in trial_ids:
        optuna_states.reopen_trial(connection, trial_id)
    return len(trial_ids)


def nan_to_none(value: float | None) -> float | None:
    """The value, or None for NaN, which PostgreSQL would store and SQLite would turn into NULL."""
    return None if value is None or math.isnan(value) else value
