"""Studies that Optuna alone made: their names, and copies of them in the form of planned studies.

A copy is a database in memory, so everything that reads a planned study reads such a study too, and nothing is written
to its own database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.study import StudyDirection
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, insert, select

from search.storage import optuna_layout, optuna_queries, optuna_tables
from search.storage.database import Database
from search.storage.dialect_sqlite import open_memory
from search.storage.metrics import write_metrics
from search.storage.migrations.runner import has_optuna_tables, has_our_tables
from search.storage.queries import study_names
from search.storage.schema import SCHEMA_VERSION, metadata, queue_table, schema_info, studies_table
from search.storage.state_transitions import outcome_of

_studies: Table = optuna_layout.studies
_trials: Table = optuna_layout.trials
_OF_STUDY: tuple[Table, ...] = (
    _studies,
    optuna_layout.study_directions,
    optuna_layout.study_system_attributes,
    _trials,
)
_OF_TRIAL: tuple[Table, ...] = (
    optuna_layout.trial_params,
    optuna_layout.trial_values,
    optuna_layout.trial_intermediate_values,
    optuna_layout.trial_user_attributes,
    optuna_layout.trial_system_attributes,
)
# Optuna's older versions stored why a trial failed.
_FAIL_REASON = "fail_reason"
# The user attribute with a trial's seconds.
_SECONDS = "train_seconds"


@dataclass(frozen=True)
class OptunaStudy:
    """A study that Optuna alone made.

    Attributes:
        directions: "minimize" or "maximize" for each objective.
        metric_names: The names of the objectives; empty if the study has none.
        trials: By number.
    """

    name: str
    directions: Sequence[str]
    metric_names: Sequence[str]
    trials: Sequence[FrozenTrial]


def optuna_study_names(database: Database) -> list[str]:
    """The names of the studies that lm-search did not plan, sorted."""

    def work(connection: Connection) -> list[str]:
        names = select(_studies.c.study_name).order_by(_studies.c.study_name)
        return list(connection.execute(names).scalars()) if has_optuna_tables(connection) else []

    planned = set(planned_names(database))
    return [name for name in database.read(work) if name not in planned]


def planned_names(database: Database) -> list[str]:
    """The names of the studies that lm-search planned, sorted; none in a database without our tables."""
    return study_names(database) if database.read(has_our_tables) else []


def delete_optuna_study(database: Database, name: str) -> None:
    """Delete a study that Optuna alone made, with its trials."""

    def work(connection: Connection) -> None:
        if (found := optuna_tables.study_id(connection, name)) is not None:
            optuna_tables.delete_study(connection, found)

    database.write(work, durable=True)


def copy_study(database: Database, name: str) -> tuple[Database, OptunaStudy]:
    """Copy a study into a new database in memory, as it is at this moment.

    Returns:
        The copy, which `plan_copy` turns into a planned study; and the study.
    """
    rows = database.read(lambda connection: _read_rows(connection, name))
    copy = Database(open_memory())

    from optuna.storages._rdb import models

    def work(connection: Connection) -> OptunaStudy:
        models.BaseModel.metadata.create_all(connection)
        metadata.create_all(connection)
        connection.execute(insert(schema_info).values(version=SCHEMA_VERSION))
        for table, values in rows.items():
            if values:
                connection.execute(insert(table), values)
        return _read_study(connection, name)

    return copy, copy.write(work)


def _read_rows(connection: Connection, name: str) -> dict[Table, list[dict[str, Any]]]:
    study_id = optuna_tables.study_id(connection, name)
    of_study = {table: select(table).where(table.c.study_id == study_id) for table in _OF_STUDY}
    of_trial = {
        table: select(table).join(_trials, _trials.c.trial_id == table.c.trial_id).where(_trials.c.study_id == study_id)
        for table in _OF_TRIAL
    }
    return {
        table: [dict(row) for row in connection.execute(query).mappings()]
        for table, query in {**of_study, **of_trial}.items()
    }


def _read_study(connection: Connection, name: str) -> OptunaStudy:
    study_id = optuna_tables.study_id(connection, name)
    assert study_id is not None, "its row was copied"
    table = optuna_layout.study_directions
    query = select(table.c.direction).order_by(table.c.objective)
    directions = ["maximize" if each == StudyDirection.MAXIMIZE else "minimize" for each in connection.scalars(query)]
    names = optuna_tables.study_system_attrs(connection, study_id).get(_SYSTEM_ATTR_METRIC_NAMES, [])
    ids = connection.scalars(select(_trials.c.trial_id)).all()
    return OptunaStudy(name, directions, names, optuna_queries.read_trials(connection, ids))


def plan_copy(copy: Database, study: OptunaStudy, attrs: Mapping[str, Any], cells: Sequence[str]) -> None:
    """Make a planned study of the copy.

    Args:
        attrs: The user attributes of a planned study, with its definition.
        cells: The cell with the seed of each trial, as canonical JSON.
    """

    def work(connection: Connection) -> None:
        study_id = optuna_tables.study_id(connection, study.name)
        assert study_id is not None, "its row was copied"
        optuna_tables.write_study_attrs(connection, study_id, attrs)
        connection.execute(insert(studies_table).values(uid=study.name, name=study.name, study_id=study_id))
        rows = [_queue_row(study, trial, cell) for trial, cell in zip(study.trials, cells, strict=True)]
        if rows:
            connection.execute(insert(queue_table), rows)
        seconds = [
            {"trial_id": trial._trial_id, "key": _SECONDS, "value_json": str(trial.duration.total_seconds())}
            for trial in study.trials
            if trial.duration is not None and _SECONDS not in trial.user_attrs
        ]
        if seconds:
            connection.execute(insert(optuna_layout.trial_user_attributes), seconds)
        for trial in study.trials:
            write_metrics(connection, trial._trial_id, trial.last_step or 0, _numbers(trial))

    copy.write(work)


def _queue_row(study: OptunaStudy, trial: FrozenTrial, cell: str) -> dict[str, Any]:
    step = trial.last_step
    reported = None if step is None else trial.intermediate_values[step]
    value = trial.values[0] if trial.values else reported
    state, outcome = _end(trial)
    return {
        "study": study.name,
        "study_uid": study.name,
        "cell": cell,
        "trial_id": trial._trial_id,
        "number": trial.number,
        "shape_key": "",
        "priority": 0,
        "state": state,
        "step": step,
        "val_loss": value,
        "outcome": outcome,
        "value": value,
        "reason": trial.system_attrs.get(_FAIL_REASON) if outcome == "failed" else None,
        "started_at": None if trial.datetime_start is None else trial.datetime_start.timestamp(),
        "finished_at": None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
    }


def _numbers(trial: FrozenTrial) -> dict[str, float]:
    """The user attributes that are numbers: further metrics."""
    attrs = {name: value for name, value in trial.user_attrs.items() if type(value) in (int, float)}
    return {name: value for name, value in attrs.items() if math.isfinite(value) and name != _SECONDS}


def _end(trial: FrozenTrial) -> tuple[str, str | None]:
    """The columns `state` and `outcome`."""
    if not trial.state.is_finished():
        return ("waiting" if trial.state == TrialState.WAITING else "running"), None
    if trial.state == TrialState.COMPLETE:
        return "done", outcome_of("complete", trial.values or [math.nan])[0]
    return "done", "pruned" if trial.state == TrialState.PRUNED else "failed"
