"""How a trial in the queue ends, and how an ended one is reset."""

from __future__ import annotations

import math
from typing import Any, Literal

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, update

from search.storage import optuna_queries
from search.storage.schema import queue_table

Outcome = Literal["complete", "pruned", "diverged", "failed"]

OPTUNA_STATE: dict[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
ENDED_ELSEWHERE = "ended by another program, such as the dashboard"
# A trial as it was planned, except for its token, which keeps counting: no earlier lease becomes valid again.
FRESH: dict[str, Any] = {
    "state": "waiting",
    "attempts": 0,
    "not_before": 0.0,
    **dict.fromkeys(("owner", "lease_until", "started_at", "finished_at")),
    **dict.fromkeys(("step", "train_loss", "val_loss", "outcome", "value", "reason")),
}


def end_trials(
    connection: Connection,
    which: ColumnElement[bool],
    outcome: Outcome,
    value: float | None,
    reason: str | None,
    now: float,
) -> bool:
    """End the trials that match `which`, in the queue only.

    Returns:
        False when none match.
    """
    ended = {"outcome": outcome, "value": nan_to_none(value), "reason": reason, "finished_at": now}
    done = update(queue_table).where(which).values(state="done", lease_until=None, **ended)
    return connection.execute(done).rowcount > 0


def ended_elsewhere(connection: Connection, trial_id: int) -> tuple[Outcome, float | None]:
    """Outcome and value of a trial that another program has finished."""
    found = optuna_queries.read_trials(connection, [trial_id])
    if found and found[0].state == TrialState.COMPLETE:
        return "complete", found[0].value
    return ("pruned" if found and found[0].state == TrialState.PRUNED else "failed"), None


def nan_to_none(value: float | None) -> float | None:
    """The value, or None for NaN, which PostgreSQL would store and SQLite would turn into NULL."""
    return None if value is None or math.isnan(value) else value
