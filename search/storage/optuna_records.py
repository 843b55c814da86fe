"""Whole studies and trials of Optuna's tables as JSON values, and back: for export and import.

Attributes, distributions and numbers stay what they are to the last digit; ids are the database's own and left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Connection, Table, insert, select

from search.storage import optuna_layout, optuna_tables
from search.storage.optuna_layout import TrialIntermediateValueType, TrialValueType

Record = dict[str, Any]

_studies: Table = optuna_layout.studies
_directions: Table = optuna_layout.study_directions
_trials: Table = optuna_layout.trials
_params: Table = optuna_layout.trial_params
_values: Table = optuna_layout.trial_values
_intermediate: Table = optuna_layout.trial_intermediate_values
# By the name in a record: the attributes of a study and of a trial.
_STUDY_ATTRS: dict[str, Table] = {
    "user_attrs": optuna_layout.study_user_attributes,
    "system_attrs": optuna_layout.study_system_attributes,
}
_TRIAL_ATTRS: dict[str, Table] = {
    "user_attrs": optuna_layout.trial_user_attributes,
    "system_attrs": optuna_layout.trial_system_attributes,
}
_CHUNK = 500


def study_record(connection: Connection, study_id: int) -> Record:
    """A study without its trials."""
    directions = [each.name for each in optuna_tables.directions(connection, study_id)]
    attrs = {
        name: {row.key: json.loads(row.value_json) for row in connection.execute(_of_study(table, study_id))}
        for name, table in _STUDY_ATTRS.items()
    }
    return {"directions": directions, **attrs}


def _of_study(table: Table, study_id: int) -> Any:
    return select(table.c.key, table.c.value_json).where(table.c.study_id == study_id).order_by(table.c.key)


def insert_study(connection: Connection, name: str, record: Record) -> int:
    """Create the study of a record; returns its id."""
    made = connection.execute(insert(_studies).values(study_name=name).returning(_studies.c.study_id)).scalar_one()
    for objective, direction in enumerate(record["directions"]):
        row = {"study_id": made, "objective": objective, "direction": StudyDirection[direction]}
        connection.execute(insert(_directions).values(row))
    for attrs, table in _STUDY_ATTRS.items():
        _insert(connection, table, [{"study_id": made, **row} for row in _attr_rows(record[attrs])])
    return int(made)


def trial_records(connection: Connection, study_id: int) -> Iterator[list[tuple[int, Record]]]:
    """The trials of a study with their ids, a few hundred at a time, in the order in which they were created."""
    last = -1
    while True:
        query = select(_trials).where(_trials.c.study_id == study_id, _trials.c.trial_id > last)
        rows = connection.execute(query.order_by(_trials.c.trial_id).limit(_CHUNK)).all()
        if not rows:
            return
        found = {row.trial_id: _empty(row) for row in rows}
        _read_parts(connection, found)
        yield list(found.items())
        last = rows[-1].trial_id


def _empty(row: Any) -> Record:
    times = {"started": row.datetime_start, "ended": row.datetime_complete}
    return {
        "number": row.number,
        "state": row.state.name,
        **{name: None if at is None else at.isoformat() for name, at in times.items()},
        **{"params": {}, "values": [], "intermediate_values": [], "user_attrs": {}, "system_attrs": {}},
    }


def _read_parts(connection: Connection, found: Mapping[int, Record]) -> None:
    def rows(table: Table, order: str) -> Any:
        query = select(table).where(table.c.trial_id.in_(list(found)))
        return connection.execute(query.order_by(table.c.trial_id, table.c[order]))

    for row in rows(_params, "param_id"):
        found[row.trial_id]["params"][row.param_name] = [row.param_value, json.loads(row.distribution_json)]
    for row in rows(_values, "objective"):
        found[row.trial_id]["values"].append([row.objective, row.value, row.value_type.name])
    for row in rows(_intermediate, "step"):
        value = [row.step, row.intermediate_value, row.intermediate_value_type.name]
        found[row.trial_id]["intermediate_values"].append(value)
    for attrs, table in _TRIAL_ATTRS.items():
        for row in rows(table, "key"):
            found[row.trial_id][attrs][row.key] = json.loads(row.value_json)


def insert_trials(connection: Connection, study_id: int, records: Sequence[Record]) -> list[int]:
    """Create the trials of records; returns their ids in the same order."""
    trials = [
        {
            "study_id": study_id,
            "number": record["number"],
            "state": TrialState[record["state"]],
            "datetime_start": _time(record["started"]),
            "datetime_complete": _time(record["ended"]),
        }
        for record in records
    ]
    made = insert(_trials).returning(_trials.c.trial_id, sort_by_parameter_order=True)
    ids = list(connection.execute(made, trials).scalars())
    of_trials = list(zip(ids, records, strict=True))
    _insert(connection, _params, [
        {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": json.dumps(distribution)}
        for trial_id, record in of_trials for name, (value, distribution) in record["params"].items()
    ])  # fmt: skip
    of_value = TrialValueType
    _insert(connection, _values, [
        {"trial_id": trial_id, "objective": objective, "value": value, "value_type": of_value[kind]}
        for trial_id, record in of_trials for objective, value, kind in record["values"]
    ])  # fmt: skip
    kinds = TrialIntermediateValueType
    _insert(connection, _intermediate, [
        {"trial_id": trial_id, "step": step, "intermediate_value": value, "intermediate_value_type": kinds[kind]}
        for trial_id, record in of_trials for step, value, kind in record["intermediate_values"]
    ])  # fmt: skip
    for attrs, table in _TRIAL_ATTRS.items():
        rows = [{"trial_id": trial_id, **row} for trial_id, each in of_trials for row in _attr_rows(each[attrs])]
        _insert(connection, table, rows)
    return ids


def _attr_rows(attrs: Mapping[str, Any]) -> list[Record]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]


def _insert(connection: Connection, table: Table, rows: Sequence[Record]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
