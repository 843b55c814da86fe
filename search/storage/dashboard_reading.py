"""What the dashboard reads of a study, and what tells it which trials have changed since."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Column, Connection, ScalarSelect, String, Table, func, select, type_coerce

from search.storage import optuna_layout, optuna_tables
from search.storage.optuna_layout import as_number

_studies: Table = optuna_layout.studies
_study_attrs: Table = optuna_layout.study_user_attributes
_study_system_attrs: Table = optuna_layout.study_system_attributes
_trials: Table = optuna_layout.trials
_values: Table = optuna_layout.trial_values
_user_attrs: Table = optuna_layout.trial_user_attributes
_system_attrs: Table = optuna_layout.trial_system_attributes


@dataclass(frozen=True)
class StudyRows:
    """A study without its trials.

    Attributes:
        user_attrs, system_attrs: Key and JSON of each, in the order in which they were set.
    """

    study_id: int
    name: str
    directions: tuple[StudyDirection, ...]
    user_attrs: tuple[tuple[str, str], ...]
    system_attrs: tuple[tuple[str, str], ...]

    def parsed_user_attrs(self) -> dict[str, Any]:
        """The user attributes."""
        return {key: json.loads(text) for key, text in self.user_attrs}

    def parsed_system_attrs(self) -> dict[str, Any]:
        """The system attributes."""
        return {key: json.loads(text) for key, text in self.system_attrs}


def read_study_rows(connection: Connection, study_id: int) -> StudyRows | None:
    """A study; None if there is none of this id."""
    name = connection.execute(select(_studies.c.study_name).where(_studies.c.study_id == study_id)).scalar()
    if name is None:
        return None
    directions = tuple(optuna_tables.directions(connection, study_id))
    user_attrs = _read_attrs(connection, _study_attrs, _study_attrs.c.study_user_attribute_id, study_id)
    system = _study_system_attrs
    system_attrs = _read_attrs(connection, system, system.c.study_system_attribute_id, study_id)
    return StudyRows(study_id, name, directions, user_attrs, system_attrs)


def _read_attrs(
    connection: Connection, table: Table, attr_id: Column[Any], study_id: int
) -> tuple[tuple[str, str], ...]:
    query = select(table.c.key, table.c.value_json).where(table.c.study_id == study_id).order_by(attr_id)
    return tuple((key, text) for key, text in connection.execute(query))


class Mark(NamedTuple):
    """A trial, and what changes with it: its state, its times, and which attributes it has.

    Optuna changes nothing of a finished trial, and lm-search only adds and removes attributes.

    Attributes:
        state: The name of Optuna's state.
        started, ended: As stored; only equality means something.
        user_attrs, system_attrs: The sums of their ids; None without any.
    """

    trial_id: int
    number: int
    state: str
    started: Any
    ended: Any
    user_attrs: int | None
    system_attrs: int | None

    @property
    def is_finished(self) -> bool:
        """Whether the trial has ended."""
        return self.state not in ("RUNNING", "WAITING")

    @property
    def is_going_on(self) -> bool:
        """Whether the trial has started and not ended: its worker writes what no mark shows."""
        return not self.is_finished and (self.state == "RUNNING" or self.started is not None)


def _sum_of_attrs(attr_id: Column[Any], trial_id: Column[Any]) -> ScalarSelect[Any]:
    # Not the highest id: PostgreSQL would look for that in the order of ids, through all trials for each trial.
    return select(func.sum(attr_id)).where(trial_id == _trials.c.trial_id).scalar_subquery()


# Times are compared, not read: as text they cost half.
_MARKS = select(
    _trials.c.trial_id,
    _trials.c.number,
    type_coerce(_trials.c.state, String),
    type_coerce(_trials.c.datetime_start, String),
    type_coerce(_trials.c.datetime_complete, String),
    _sum_of_attrs(_user_attrs.c.trial_user_attribute_id, _user_attrs.c.trial_id),
    _sum_of_attrs(_system_attrs.c.trial_system_attribute_id, _system_attrs.c.trial_id),
)


def read_marks(connection: Connection, study_id: int) -> list[Mark]:
    """The marks of all trials of a study, by trial_id."""
    of_study = _MARKS.where(_trials.c.study_id == study_id).order_by(_trials.c.trial_id)
    return [Mark._make(row) for row in connection.execute(of_study)]


def read_values(connection: Connection, study_id: int) -> dict[int, tuple[float, ...]]:
    """The values of all complete trials of a study, by trial_id."""
    columns = (_values.c.trial_id, _values.c.value, _values.c.value_type)
    query = select(*columns).join(_trials, _trials.c.trial_id == _values.c.trial_id)
    complete = query.where(_trials.c.study_id == study_id, _trials.c.state == TrialState.COMPLETE)
    found: dict[int, tuple[float, ...]] = {}
    for trial_id, stored, kind in connection.execute(complete.order_by(_values.c.objective)):
        value = as_number(stored, kind)
        found[trial_id] = (*found.get(trial_id, ()), value)
    return found


def best_trial_id(connection: Connection, study: StudyRows) -> int | None:
    """The trial that Optuna calls the best of a study with one objective; None without a complete trial."""
    from optuna.storages._rdb import models
    from sqlalchemy.orm import Session

    find = models.TrialModel.find_min_value_trial_id
    if study.directions[0] is StudyDirection.MAXIMIZE:
        find = models.TrialModel.find_max_value_trial_id
    try:
        found: int = find(study.study_id, 0, Session(connection))
    except ValueError:
        return None
    return found
