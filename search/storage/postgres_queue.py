"""Claim, report and finish on PostgreSQL as one statement each: one round trip instead of five to eight.

They are equivalent to the transactions in `search.storage.queue`, which SQLite uses, and which handle the rare cases
that one statement cannot. A statement is a transaction: after a crash, all of it took effect or nothing.

The first part of each statement locks the row, and the other parts use what it returns; with an old token it returns
nothing, so nothing is written. The lease is compared as in `search.storage.leases.held_by`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from sqlalchemy import text

from search.storage.leases import ClaimedNow, ExpiredLease, Lease, Report, held_values
from search.storage.optuna_layout import intermediate_value_columns, value_columns
from search.storage.state_transitions import nan_to_none
from search.storage.texts import storable_json, storable_text

if TYPE_CHECKING:
    from search.storage.database import Database

_NOW = "extract(epoch FROM clock_timestamp())::double precision"
_UTC = "(clock_timestamp() AT TIME ZONE 'UTC')"

# As `search.storage.crashes.has_progressed`, `search.storage.leases.LEASE_FACTOR` and `claimed_by`.
_PROGRESSED = "coalesce(run.highest_step, 0) > coalesce(run.step_at_claim, 0)"
_UNTIL = f"{_NOW} + :lease_s * (1 << run.lost_leases)"
_HELD = "run.id = :held_id AND run.study_uid = :held_uid AND run.owner = :held_owner AND run.token = :held_token"

_CLAIM = text(f"""
WITH expired AS (
    SELECT id, 0 AS turn, priority, owner, attempts, step, failure FROM search_runs AS run
    WHERE study_uid = ANY(:uids) AND state = 'running'
    AND (owner = :owner OR (lease_until < {_NOW} AND (attempts < :max_attempts OR {_PROGRESSED})))
    ORDER BY priority, id LIMIT :limit FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id, 1 AS turn, priority, CAST(NULL AS text) AS owner, attempts, step, failure FROM search_runs
    WHERE study_uid = ANY(:uids) AND state = 'waiting' AND not_before <= {_NOW}
    ORDER BY priority, id LIMIT :limit FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT * FROM (SELECT * FROM expired UNION ALL SELECT * FROM due) AS both_kinds
    ORDER BY turn, priority, id LIMIT :limit
), claimed AS (
    UPDATE search_runs AS run
    SET state = 'running', owner = :owner, token = run.token + 1,
        attempts = CASE WHEN run.state = 'running' AND run.owner = :owner THEN run.attempts
            WHEN {_PROGRESSED} THEN 1 ELSE run.attempts + 1 END,
        lost_leases = CASE WHEN (run.state <> 'running' OR run.owner <> :owner) AND {_PROGRESSED} THEN 0
            ELSE run.lost_leases END,
        step_at_claim = CASE WHEN run.state = 'running' AND run.owner = :owner THEN run.step_at_claim
            ELSE run.highest_step END,
        lease_until = {_UNTIL}, started_at = {_NOW}
    FROM picked WHERE run.id = picked.id
    RETURNING run.id, run.study, run.study_uid, run.cell, run.trial_id, run.number, run.owner, run.token, run.attempts,
        run.shape_key, picked.turn, run.priority, picked.owner AS old_owner, picked.attempts AS old_attempts,
        picked.step AS old_step, picked.failure AS old_failure
), started AS (
    UPDATE trials SET state = 'RUNNING', datetime_start = coalesce(datetime_start, {_UTC})
    FROM claimed WHERE trials.trial_id = claimed.trial_id AND trials.state = 'WAITING'
)
SELECT id, study, study_uid, cell, trial_id, number, owner, token, attempts, shape_key,
    old_owner, old_attempts, old_step, old_failure, (
    SELECT count(*) FROM search_runs AS run
    WHERE run.study_uid = ANY(:uids) AND run.state = 'running' AND run.owner <> :owner
    AND run.lease_until < {_NOW} AND run.attempts >= :max_attempts AND NOT ({_PROGRESSED})
) AS exhausted
FROM claimed ORDER BY turn, priority, id
""")

_REPORT = text(f"""
WITH held AS (
    UPDATE search_runs AS run
    SET lease_until = {_UNTIL}, step = :step, train_loss = :train_loss, val_loss = :val_loss,
        highest_step = greatest(run.highest_step, :step)
    WHERE {_HELD} AND run.state = 'running' AND EXISTS (
        SELECT 1 FROM trials WHERE trials.trial_id = run.trial_id AND trials.state IN ('WAITING', 'RUNNING')
    )
    RETURNING trial_id
), written AS (
    INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, :step, :value, CAST(:kind AS trialintermediatevaluetype) FROM held
    ON CONFLICT (trial_id, step) DO UPDATE
    SET intermediate_value = excluded.intermediate_value, intermediate_value_type = excluded.intermediate_value_type
), described AS (
    INSERT INTO search_metrics (trial_id, step, metrics)
    SELECT trial_id, :step, CAST(:metrics AS text) FROM held WHERE CAST(:metrics AS text) IS NOT NULL
    ON CONFLICT (trial_id, step) DO UPDATE SET metrics = excluded.metrics
)
SELECT count(*) FROM held
""")

_FINISH = text(f"""
WITH held AS (
    SELECT id, trial_id FROM search_runs AS run WHERE {_HELD} AND run.state = 'running' FOR UPDATE
), trial_ended AS (
    UPDATE trials
    SET state = CAST(:state AS trialstate), datetime_start = coalesce(datetime_start, {_UTC}),
        datetime_complete = {_UTC}
    FROM held WHERE trials.trial_id = held.trial_id AND trials.state IN ('WAITING', 'RUNNING')
    RETURNING trials.trial_id
), ended AS (
    UPDATE search_runs
    SET state = 'done', outcome = :outcome, value = :row_value, reason = :reason, finished_at = {_NOW},
        lease_until = NULL
    FROM trial_ended WHERE search_runs.id = :held_id
), valued AS (
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT trial_id, 0, :value, CAST(:kind AS trialvaluetype) FROM trial_ended WHERE :kind IS NOT NULL
    ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, value_type = excluded.value_type
), described AS (
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT trial_id, attr.key, attr.value FROM trial_ended, unnest(:keys ::text[], :texts ::text[]) AS attr (key, value)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
), noted AS (
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    SELECT trial_id, attr.key, attr.value
    FROM trial_ended, unnest(:system_keys ::text[], :system_texts ::text[]) AS attr (key, value)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
)
SELECT count(*) FROM trial_ended
""")


def claim(
    database: Database, uids: Sequence[str], owner: str, limit: int, lease_s: float, max_attempts: int
) -> ClaimedNow:
    """As `search.storage.dialects.OneStatementQueue`."""
    values = {"uids": list(uids), "owner": owner, "limit": limit, "lease_s": lease_s, "max_attempts": max_attempts}
    rows = database.execute_autocommit(_CLAIM, values)
    expired = [
        ExpiredLease(row.id, row.study_uid, row.old_owner, row.old_attempts, row.old_step, row.old_failure)
        for row in rows
        if row.old_owner not in (None, owner)
    ]
    return ClaimedNow([Lease(*tuple(row)[:10]) for row in rows], expired, rows[0].exhausted if rows else 0)


def report(database: Database, one: Report, lease_s: float) -> bool:
    """As `search.storage.dialects.OneStatementQueue`."""
    value, kind = intermediate_value_columns(one.value)
    losses = {"train_loss": nan_to_none(one.train_loss), "val_loss": nan_to_none(one.value)}
    metrics = storable_json(dict(one.metrics)) if one.metrics else None
    values = {**held_values(one.lease), "lease_s": lease_s, "step": one.step, "metrics": metrics, **losses}
    return bool(database.execute_autocommit(_REPORT, {**values, "value": value, "kind": kind.name})[0][0])


def finish(
    database: Database,
    lease: Lease,
    outcome: str,
    state: TrialState,
    value: float | None,
    attrs: Mapping[str, Any],
    reason: str | None,
    system_attrs: Mapping[str, Any],
) -> bool:
    """As `search.storage.dialects.OneStatementQueue`."""
    row_value = nan_to_none(value)
    stored, kind = (None, None) if row_value is None else value_columns(row_value)
    values = {
        **held_values(lease),
        "outcome": outcome,
        "state": state.name,
        "row_value": row_value,
        "reason": None if reason is None else storable_text(reason),
        "value": stored,
        "kind": kind.name if kind is not None else None,
        "keys": [storable_text(key) for key in attrs],
        "texts": [storable_json(each) for each in attrs.values()],
        "system_keys": [storable_text(key) for key in system_attrs],
        "system_texts": [storable_json(each) for each in system_attrs.values()],
    }
    return bool(database.execute_autocommit(_FINISH, values)[0][0])
