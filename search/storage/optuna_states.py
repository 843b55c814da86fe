"""The states of trials in Optuna's tables: how a trial starts, waits again and ends, inside our transactions.

Each change is made only from the states that it may follow, because another program can have ended the trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select, update

from search.storage import optuna_layout, optuna_tables
from search.storage.optuna_tables import ENQUEUED, FIXED
from search.storage.schema import metrics_table

_trials: Table = optuna_layout.trials
# What a trial that is reset loses, besides its metrics.
_RESULTS: tuple[Table, ...] = (
    optuna_layout.trial_values,
    optuna_layout.trial_intermediate_values,
    optuna_layout.trial_user_attributes,
    optuna_layout.trial_system_attributes,
)
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

# The frequent statements are built once: building one takes longer than running it.
_now = bindparam("now", type_=_trials.c.datetime_start.type)
_start_time = func.coalesce(_trials.c.datetime_start, _now)
_START = (
    update(_trials)
    .where(_trials.c.trial_id.in_(bindparam("ids", expanding=True)), _trials.c.state == TrialState.WAITING)
    .values(state=TrialState.RUNNING, datetime_start=_start_time)
)
_FINISH = (
    update(_trials)
    .where(_trials.c.trial_id == bindparam("id"), _trials.c.state.not_in(FINISHED))
    .values(
        state=bindparam("new_state", type_=_trials.c.state.type), datetime_start=_start_time, datetime_complete=_now
    )
)


def start_trials(connection: Connection, trial_ids: Sequence[int], now: float) -> None:
    """Set WAITING trials to RUNNING; a trial that was running before keeps its first start time."""
    connection.execute(_START, {"ids": list(trial_ids), "now": optuna_tables.utc(now)})


def is_unfinished(trial_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether the trial of this id exists and has not ended, as a condition on a row of another table."""
    return select(_trials.c.trial_id).where(_trials.c.trial_id == trial_id, _trials.c.state.not_in(FINISHED)).exists()


def release_trials(connection: Connection, trial_ids: Sequence[int]) -> None:
    """Set RUNNING trials back to WAITING."""
    connection.execute(
        update(_trials)
        .where(_trials.c.trial_id.in_(trial_ids), _trials.c.state == TrialState.RUNNING)
        .values(state=TrialState.WAITING)
    )


def finish_trial(
    connection: Connection,
    trial_id: int,
    state: TrialState,
    values: Sequence[float],
    attrs: Mapping[str, Any],
    now: float,
    system_attrs: Mapping[str, Any] | None = None,
) -> bool:
    """Set the final state and values of a trial, and its user and system attributes.

    Args:
        values: One for each objective of the study; empty for a trial without a value, as is a single NaN.

    Returns:
        False when a program that uses Optuna directly has already finished it; nothing is changed then.
    """
    finished = connection.execute(_FINISH, {"id": trial_id, "new_state": state, "now": optuna_tables.utc(now)})
    if finished.rowcount == 0:
        return False
    for objective, value in enumerate(values):
        if not math.isnan(value):
            optuna_tables.write_value(connection, trial_id, value, objective)
    optuna_tables.write_user_attrs(connection, trial_id, attrs)
    optuna_tables.write_system_attrs(connection, trial_id, system_attrs or {})
    return True


def reopen_trial(connection: Connection, trial_id: int) -> None:
    """Make a finished trial WAITING again, as if it had never run."""
    attrs = optuna_layout.trial_system_attributes.c
    of_trial = select(attrs.value_json).where(attrs.trial_id == trial_id, attrs.key == ENQUEUED)
    enqueued = connection.execute(of_trial).scalar()
    for table in (*_RESULTS, metrics_table):
        connection.execute(table.delete().where(table.c.trial_id == trial_id))
    if enqueued is not None:
        optuna_tables.write_system_attrs(connection, trial_id, dict.fromkeys((FIXED, ENQUEUED), json.loads(enqueued)))
    connection.execute(
        update(_trials)
        .where(_trials.c.trial_id == trial_id)
        .values(state=TrialState.WAITING, datetime_start=None, datetime_complete=None)
    )
