"""Makes the queue and Optuna's trials consistent where another program changed one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import TrialState
from sqlalchemy import Connection, Row, select

from search.storage import optuna_queries, optuna_states, optuna_tables
from search.storage.database import Database
from search.storage.optuna_tables import Parameter
from search.storage.schema import queue_table
from search.storage.slots import is_empty_slot, parameters_of
from search.storage.state_transitions import OPTUNA_STATE, end_as_elsewhere


def repair(
    database: Database,
    connection: Connection,
    study_id: int,
    rows: Sequence[Row[Any]],
    plan: Sequence[Mapping[str, Parameter]],
) -> int:
    """Repair the trials of a study: their ends, their values and their parameters.

    Args:
        rows: The rows of the study.
        plan: The parameters of the trials of its plan.

    Returns:
        How many trials were repaired.
    """
    now = database.time(connection)
    changed = _repair_ends(connection, study_id, rows, now) | _repair_values(connection, study_id, rows)
    return len(changed | _repair_parameters(connection, study_id, rows, plan))


def _repair_ends(connection: Connection, study_id: int, rows: Sequence[Row[Any]], now: float) -> set[int]:
    states = optuna_queries.trial_states(connection, study_id)
    inconsistent = [row.id for row in rows if not _agree(row, states.get(row.trial_id))]
    if not inconsistent:
        return set()
    # Read again with the rows locked: a worker can have ended a trial between the two queries.
    which = select(queue_table).where(queue_table.c.id.in_(inconsistent)).order_by(queue_table.c.id)
    locked = connection.execute(which.with_for_update()).all()
    states = optuna_queries.trial_states(connection, study_id)
    found = [row for row in locked if not _agree(row, states.get(row.trial_id))]
    for row in found:
        if row.state == "done":
            attrs = {"outcome": row.outcome, **({"reason": row.reason} if row.reason else {})}
            end, at = OPTUNA_STATE[row.outcome], row.finished_at or now
            values = () if row.value is None else (row.value,)
            optuna_states.finish_trial(connection, row.trial_id, end, values, attrs, at)
        else:
            end_as_elsewhere(connection, queue_table.c.id == row.id, now)
    return {row.id for row in found}


def _agree(row: Row[Any], state: TrialState | None) -> bool:
    return state is not None and state.is_finished() == (row.state == "done")


def _repair_values(connection: Connection, study_id: int, rows: Sequence[Row[Any]]) -> set[int]:
    """Write the values that are missing or differ: the queue's are those that the ranking shows."""
    values = optuna_queries.trial_values(connection, study_id)
    found = [row for row in rows if row.value is not None and values.get(row.trial_id) != row.value]
    for row in found:
        optuna_tables.write_value(connection, row.trial_id, row.value)
    return {row.id for row in found}


def _repair_parameters(
    connection: Connection, study_id: int, rows: Sequence[Row[Any]], plan: Sequence[Mapping[str, Parameter]]
) -> set[int]:
    """Write the parameters of trials that lack some."""
    names = optuna_queries.parameter_names(connection, study_id)
    lacking = [
        row
        for row in rows
        if names.get(row.trial_id, set()) != parameters_of(row.cell).keys() and not is_empty_slot(row.cell)
    ]
    if not lacking:
        return set()
    # The distributions of a study are the same in all of its trials.
    known = optuna_queries.distributions(connection, study_id)
    for planned in plan:
        known |= {name: parameter.distribution for name, parameter in planned.items()}
    for row in lacking:
        cell = parameters_of(row.cell)
        seed = IntDistribution(cell["seed"], cell["seed"])
        distributions = {"seed": seed, **known}
        parameters = {n: Parameter(value, distributions[n]) for n, value in cell.items() if n in distributions}
        optuna_tables.write_parameters(connection, row.trial_id, parameters)
    return {row.id for row in lacking}
