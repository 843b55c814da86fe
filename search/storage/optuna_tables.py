"""Writes Optuna's tables inside our transactions.

Optuna's storage commits each small write separately, so a worker that crashes between two of them leaves a partial
trial. Here a trial and its row in the queue change together or not at all. Only this module, `optuna_states`,
`optuna_queries`, `optuna_records`, `postgres_queue`, `dashboard_attrs` and the migrations depend on the layout of
Optuna's tables (unchanged since Optuna 3.2); Optuna's test suite for storages checks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.study import StudyDirection
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import TrialState
from sqlalchemy import Connection, Table, delete, func, insert, or_, select

from search.storage import optuna_layout
from search.storage.artifact_store import ATTR_PREFIX
from search.storage.dialects import upsert
from search.storage.optuna_layout import intermediate_value_columns, value_columns
from search.storage.texts import storable_json, storable_text

_trials: Table = optuna_layout.trials
_params: Table = optuna_layout.trial_params
_values: Table = optuna_layout.trial_values
_intermediate: Table = optuna_layout.trial_intermediate_values
_user_attrs: Table = optuna_layout.trial_user_attributes
_system_attrs: Table = optuna_layout.trial_system_attributes
_heartbeats: Table = optuna_layout.trial_heartbeats
_directions: Table = optuna_layout.study_directions
_studies: Table = optuna_layout.studies
_study_attrs: Table = optuna_layout.study_user_attributes
_study_system_attrs: Table = optuna_layout.study_system_attributes

# With rows of trials: all, and those that a trial is planned with.
TRIAL_TABLES = (_trials, _params, _values, _intermediate, _user_attrs, _system_attrs, _heartbeats)
PLANNED_TABLES = (_trials, _params)

# Characters of the name of an attribute; the limit of Optuna's column.
MAX_KEY = 512


@dataclass(frozen=True)
class Parameter:
    """A parameter's value and its Optuna distribution."""

    value: Any
    distribution: BaseDistribution


# System attributes of a trial: Optuna's, with the parameters that it gets instead of chosen ones; and ours, with those
# of a cell that was enqueued for an objective that suggests its parameters.
FIXED, ENQUEUED = "fixed_params", "enqueued"


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as Optuna stores times: UTC without a zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def study_id(connection: Connection, name: str) -> int | None:
    """Optuna's id of the study called `name`, None when there is none."""
    return connection.execute(select(_studies.c.study_id).where(_studies.c.study_name == name)).scalar()


def create_study(
    connection: Connection,
    name: str,
    attrs: Mapping[str, Any],
    directions: Sequence[StudyDirection] = (StudyDirection.MINIMIZE,),
    metric_names: Sequence[str] = (),
) -> int:
    """Create a study.

    Args:
        directions: One for each objective.
        metric_names: What the objectives are called, for Optuna and the dashboard.

    Returns:
        Its id.
    """
    made = connection.execute(insert(_studies).values(study_name=name).returning(_studies.c.study_id)).scalar_one()
    rows = [{"study_id": made, "objective": at, "direction": each} for at, each in enumerate(directions)]
    connection.execute(insert(_directions), rows)
    if metric_names:
        write_study_system_attrs(connection, made, {_SYSTEM_ATTR_METRIC_NAMES: list(metric_names)})
    write_study_attrs(connection, made, attrs)
    return int(made)


def directions(connection: Connection, study_id: int) -> list[StudyDirection]:
    """The directions of a study's values."""
    query = select(_directions.c.direction).where(_directions.c.study_id == study_id).order_by(_directions.c.objective)
    return list(connection.execute(query).scalars())


def delete_study(connection: Connection, study_id: int) -> None:
    """Delete a study and its trials; our rows are deleted with them."""
    of_study = select(_trials.c.trial_id).where(_trials.c.study_id == study_id)
    for table in TRIAL_TABLES[1:]:
        connection.execute(delete(table).where(table.c.trial_id.in_(of_study)))
    for table in (_trials, _directions, _study_attrs, _study_system_attrs, _studies):
        connection.execute(delete(table).where(table.c.study_id == study_id))


def remove_artifacts(connection: Connection, trial_ids: Sequence[int]) -> None:
    """Delete the attributes of trials that name artifacts."""
    is_artifact = _system_attrs.c.key.startswith(ATTR_PREFIX)
    connection.execute(delete(_system_attrs).where(_system_attrs.c.trial_id.in_(trial_ids), is_artifact))


def write_study_attrs(connection: Connection, study_id: int, attrs: Mapping[str, Any]) -> None:
    """Set user attributes of a study."""
    _write_attrs(connection, _study_attrs, "study_id", study_id, attrs)


def study_attrs(connection: Connection, study_id: int) -> dict[str, Any]:
    """All user attributes of a study."""
    rows = connection.execute(select(_study_attrs).where(_study_attrs.c.study_id == study_id))
    return {row.key: json.loads(row.value_json) for row in rows}


def study_attr(connection: Connection, study_id: int, key: str) -> Any:
    """One user attribute of a study; None without it."""
    query = select(_study_attrs.c.value_json).where(_study_attrs.c.study_id == study_id, _study_attrs.c.key == key)
    found = connection.execute(query).scalar()
    return None if found is None else json.loads(found)


def study_system_attrs(connection: Connection, study_id: int) -> dict[str, Any]:
    """All system attributes of a study: what samplers store on it."""
    rows = connection.execute(select(_study_system_attrs).where(_study_system_attrs.c.study_id == study_id))
    return {row.key: json.loads(row.value_json) for row in rows}


def write_study_system_attrs(connection: Connection, study_id: int, attrs: Mapping[str, Any]) -> None:
    """Set system attributes of a study."""
    _write_attrs(connection, _study_system_attrs, "study_id", study_id, attrs)


def insert_waiting_trials(
    connection: Connection, study_id: int, trials: Sequence[Mapping[str, Parameter]]
) -> list[tuple[int, int]]:
    """Create a WAITING trial per set of parameters.

    Returns:
        (trial_id, number) of each, in the order given.
    """
    # Optuna numbers trials under the same lock, so concurrent planners and Optuna never assign a number twice.
    connection.execute(select(_studies.c.study_id).where(_studies.c.study_id == study_id).with_for_update())
    # The highest number, not the count: a user can have deleted a trial.
    highest = select(func.coalesce(func.max(_trials.c.number), -1)).where(_trials.c.study_id == study_id)
    number = connection.execute(highest).scalar_one() + 1
    created: list[tuple[int, int]] = []
    for offset in range(len(trials)):
        row = {"study_id": study_id, "number": number + offset, "state": TrialState.WAITING}
        trial_id = connection.execute(insert(_trials).values(row).returning(_trials.c.trial_id)).scalar_one()
        created.append((trial_id, number + offset))
    _insert_parameters(connection, [(trial_id, each) for (trial_id, _), each in zip(created, trials, strict=True)])
    return created


def write_parameters(connection: Connection, trial_id: int, parameters: Mapping[str, Parameter]) -> None:
    """Set the parameters of a trial, replacing any that it has."""
    connection.execute(_params.delete().where(_params.c.trial_id == trial_id))
    _insert_parameters(connection, [(trial_id, parameters)])


def add_parameter(connection: Connection, trial_id: int, name: str, parameter: Parameter) -> None:
    """Set a parameter of a trial."""
    row = _parameter_row(trial_id, name, parameter, distribution_to_json(parameter.distribution))
    # Again with the same value if the answer to the first time was lost.
    upsert(connection, _params, [row], ("trial_id", "param_name"))


def delete_system_attrs(connection: Connection, trial_id: int, prefixes: Sequence[str]) -> None:
    """Delete the system attributes of a trial whose names start with one of `prefixes`."""
    names = or_(*(_system_attrs.c.key.startswith(each, autoescape=True) for each in prefixes))
    connection.execute(_system_attrs.delete().where(_system_attrs.c.trial_id == trial_id, names))


def delete_intermediate_values(connection: Connection, trial_id: int, from_step: int) -> None:
    """Delete what a trial reported at `from_step` and later steps."""
    which = (_intermediate.c.trial_id == trial_id, _intermediate.c.step >= from_step)
    connection.execute(_intermediate.delete().where(*which))


def _insert_parameters(connection: Connection, trials: Sequence[tuple[int, Mapping[str, Parameter]]]) -> None:
    # Trials share their distributions; the JSON of a long list is made once.
    shared = {id(each.distribution): each.distribution for _, parameters in trials for each in parameters.values()}
    texts = {key: distribution_to_json(distribution) for key, distribution in shared.items()}
    rows = [
        _parameter_row(trial_id, name, parameter, texts[id(parameter.distribution)])
        for trial_id, parameters in trials
        for name, parameter in parameters.items()
    ]
    if rows:
        connection.execute(insert(_params), rows)


def _parameter_row(trial_id: int, name: str, parameter: Parameter, distribution: str) -> dict[str, Any]:
    value = parameter.distribution.to_internal_repr(parameter.value)
    return {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": distribution}


def write_intermediate_values(connection: Connection, values: Iterable[tuple[int, int, float]]) -> None:
    """Store values of trials, each with the id of the trial and the step, replacing earlier ones."""
    rows = []
    for trial_id, step, value in values:
        stored, kind = intermediate_value_columns(value)
        at = {"trial_id": trial_id, "step": step}
        rows.append({**at, "intermediate_value": stored, "intermediate_value_type": kind})
    upsert(connection, _intermediate, rows, ("trial_id", "step"))


def write_value(connection: Connection, trial_id: int, value: float, objective: int = 0) -> None:
    """Set the value of a trial, replacing an earlier one."""
    stored, kind = value_columns(value)
    row = {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
    upsert(connection, _values, [row], ("trial_id", "objective"))


def write_user_attrs(connection: Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Set user attributes of a trial."""
    _write_attrs(connection, _user_attrs, "trial_id", trial_id, attrs)


def write_system_attrs(connection: Connection, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Set system attributes of a trial: what Optuna's pruners store on it."""
    _write_attrs(connection, _system_attrs, "trial_id", trial_id, attrs)


def _write_attrs(connection: Connection, table: Table, owner: str, owner_id: int, attrs: Mapping[str, Any]) -> None:
    rows = [
        {owner: owner_id, "key": storable_text(key, MAX_KEY), "value_json": storable_json(value)}
        for key, value in attrs.items()
    ]
    upsert(connection, table, rows, (owner, "key"))
