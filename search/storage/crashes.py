"""What is known of the ends of workers, and what becomes of the trials that they held.

An attempt counts against a trial if it made no progress: a step that no attempt reached before. A worker that turns out
to be alive takes its attempt back, since it did not end with the trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, update

from search.storage import optuna_states
from search.storage.failures import Failure
from search.storage.leases import MAX_LOST_LEASES, ExpiredLease, Lease, row_of
from search.storage.schema import queue_table
from search.storage.spending import end_spending
from search.storage.state_transitions import ENDED_ELSEWHERE, end_trials

TAKEN_OVER = "another worker has taken it over"
DELETED = "the study or the trial was deleted"


def has_progressed() -> ColumnElement[bool]:
    """Trials whose newest attempt reached a step that no attempt reached before; an evaluation at step 0 is none."""
    return func.coalesce(queue_table.c.highest_step, 0) > func.coalesce(queue_table.c.step_at_claim, 0)


def abandon(connection: Connection, owner: str, failure: Failure | None, now: float) -> int:
    """Expire the leases of a worker that has ended, and record how; returns their number."""
    end_spending(connection, owner, now)
    held = and_(queue_table.c.owner == owner, queue_table.c.state == "running")
    rows = connection.execute(select(queue_table).where(held).with_for_update()).all()
    for row in rows:
        found = (failure or Failure("worker crashed")).of_attempt(owner, row.attempts, row.step, now)
        values = {"lease_until": now - 1.0, "failure": found.to_json()}
        connection.execute(update(queue_table).where(held, queue_table.c.id == row.id).values(values))
    return len(rows)


def note_hosts_gone(connection: Connection, expired: Sequence[ExpiredLease], now: float) -> None:
    """Record that nothing was heard of the workers of expired leases, unless their end is recorded already."""
    for each in expired:
        known = Failure.from_json(each.failure)
        if known is not None and (known.worker, known.attempt) == (each.owner, each.attempts):
            continue
        gone = Failure("host gone").of_attempt(each.owner, each.attempts, each.step, now)
        same = row_of(each.queue_id, each.study_uid)
        connection.execute(update(queue_table).where(same).values(failure=gone.to_json()))


def note_alive(connection: Connection, lease: Lease, now: float) -> str:
    """Take back the attempt of a worker that lost its lease and is alive, and lengthen the trial's next leases.

    A trial that failed because its workers seemed to be gone waits again.

    Returns:
        Why the lease was lost.
    """
    same = row_of(lease.queue_id, lease.study_uid)
    row = connection.execute(select(queue_table).where(same).with_for_update()).first()
    if row is None:
        return DELETED
    if row.token <= lease.token:
        return str(row.reason) if row.state == "done" and row.reason == ENDED_ELSEWHERE else TAKEN_OVER
    known = Failure.from_json(row.failure)
    seems_gone = known is not None and known.kind in ("host gone", "lease lost")
    if row.state == "done" and not (row.outcome == "failed" and seems_gone):
        return TAKEN_OVER
    values: dict[str, Any] = {"lost_leases": min(MAX_LOST_LEASES, row.lost_leases + 1)}
    if row.state == "done":
        ended = ("owner", "lease_until", "finished_at", "outcome", "value", "reason")
        values |= {"state": "waiting", **dict.fromkeys(ended)}
        optuna_states.reopen_trial(connection, row.trial_id)
    current = 1 if row.state == "running" else 0
    values["attempts"] = max(current, row.attempts - 1)
    if known is None or known.worker in (None, lease.owner):
        lost = Failure("lease lost").of_attempt(lease.owner, lease.attempt, row.step, now)
        values["failure"] = lost.to_json()
    connection.execute(update(queue_table).where(same).values(values))
    return TAKEN_OVER


def fail_exhausted(connection: Connection, trial: Row[Any], now: float) -> None:
    """Fail a trial with an expired lease that has no attempts left."""
    workers = f"{trial.attempts} worker{'' if trial.attempts == 1 else 's'}"
    reason = f"{workers} crashed while training this trial; last: {trial.owner}"
    same = row_of(trial.id, trial.study_uid)
    end_trials(connection, same, "failed", None, reason, now)
    # Its last worker can still be alive; the old token keeps it from writing to the ended trial.
    connection.execute(update(queue_table).where(same).values(token=queue_table.c.token + 1))
    known = connection.execute(select(queue_table.c.failure).where(same)).scalar()
    found = Failure.from_json(known)
    attrs = {"outcome": "failed", "reason": reason, **({} if found is None else {"failure": found.as_dict()})}
    optuna_states.finish_trial(connection, trial.trial_id, TrialState.FAIL, (), attrs, now)
