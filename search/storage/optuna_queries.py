"""Reads many trials from Optuna's tables in few queries: whole trials, attributes, curves, times."""

from __future__ import annotations

import gc
import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, ColumnElement, Connection, Select, Table, func, select

from search.storage import optuna_layout
from search.storage.artifact_store import ATTR_PREFIX
from search.storage.chunks import chunks, is_one_of
from search.storage.optuna_layout import as_number

_studies: Table = optuna_layout.studies
_study_attrs: Table = optuna_layout.study_user_attributes
_trials: Table = optuna_layout.trials
_params: Table = optuna_layout.trial_params
_values: Table = optuna_layout.trial_values
_intermediate: Table = optuna_layout.trial_intermediate_values
_user_attrs: Table = optuna_layout.trial_user_attributes
_system_attrs: Table = optuna_layout.trial_system_attributes


def read_user_attrs(connection: Connection, trial_ids: Sequence[int], keys: Sequence[str]) -> dict[int, dict[str, Any]]:
    """The user attributes called `keys` of many trials, by trial_id."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks(trial_ids if keys else ()):
        query = select(_user_attrs).where(is_one_of(_user_attrs.c.trial_id, chunk), _user_attrs.c.key.in_(keys))
        for row in connection.execute(query):
            found.setdefault(row.trial_id, {})[row.key] = json.loads(row.value_json)
    return found


def count_user_attr(key: str, trial_id: Column[Any], group: Column[Any]) -> Select[Any]:
    """A query of groups, JSON values of the user attribute `key`, and the number of trials that have it, first to last.

    Args:
        trial_id: The column of another table that names the trial.
        group: A column of that table, to count apart.
    """
    attr = _user_attrs.c
    query = select(group, attr.value_json, func.count()).join_from(
        trial_id.table, _user_attrs, (attr.trial_id == trial_id) & (attr.key == key)
    )
    return query.group_by(group, attr.value_json).order_by(group, func.min(trial_id))


def study_attr(study_id: ColumnElement[int], key: str) -> Select[tuple[str]]:
    """A query of the JSON of one user attribute of a study."""
    return select(_study_attrs.c.value_json).where(_study_attrs.c.study_id == study_id, _study_attrs.c.key == key)


def read_curves(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[int, float]]:
    """The reported values of many trials: trial_id to step to value, steps ascending."""
    found: dict[int, dict[int, float]] = {}
    table = _intermediate.c
    for chunk in chunks(trial_ids):
        query = select(table.trial_id, table.step, table.intermediate_value, table.intermediate_value_type)
        of_chunk = query.where(is_one_of(table.trial_id, chunk)).order_by(table.trial_id, table.step)
        for trial_id, step, stored, kind in connection.execute(of_chunk):
            value = as_number(stored, kind)
            found.setdefault(trial_id, {})[step] = value
    return found


def with_times(query: Select[Any], trial_id: Column[Any]) -> Select[Any]:
    """A query with two more columns, the times of first claim and end of a trial in UTC.

    Args:
        trial_id: The column of the query's table that names the trial.
    """
    times = (_trials.c.datetime_start, _trials.c.datetime_complete)
    return query.add_columns(*times).join_from(trial_id.table, _trials, _trials.c.trial_id == trial_id)


def trial_states(connection: Connection, study_id: int) -> dict[int, TrialState]:
    """The state of every trial of a study, by trial_id."""
    rows = connection.execute(select(_trials.c.trial_id, _trials.c.state).where(_trials.c.study_id == study_id))
    return {row.trial_id: row.state for row in rows}


def trial_values(connection: Connection, study_id: int) -> dict[int, float]:
    """The value of every trial of a study that has one, by trial_id."""
    columns = (_values.c.trial_id, _values.c.value, _values.c.value_type)
    query = select(*columns).join(_trials, _trials.c.trial_id == _values.c.trial_id)
    rows = connection.execute(query.where(_trials.c.study_id == study_id, _values.c.objective == 0))
    return {row.trial_id: as_number(row.value, row.value_type) for row in rows}


def read_further_values(connection: Connection, studies: Sequence[str]) -> dict[int, list[float]]:
    """The values of the trials of some studies without that of the first objective, by trial_id."""
    columns = (_values.c.trial_id, _values.c.value, _values.c.value_type)
    query = select(*columns).where(_values.c.objective > 0, _values.c.trial_id.in_(_trials_of(studies)))
    found: dict[int, list[float]] = {}
    for trial_id, stored, kind in connection.execute(query.order_by(_values.c.objective)):
        found.setdefault(trial_id, []).append(as_number(stored, kind))
    return found


def read_infeasible(connection: Connection, studies: Sequence[str]) -> set[int]:
    """The trial_ids of those trials of some studies that violate a constraint: Optuna stores each as an attribute."""
    attrs = _system_attrs.c
    query = select(attrs.trial_id, attrs.value_json).where(
        attrs.key.startswith(_CONSTRAINTS_KEY), attrs.trial_id.in_(_trials_of(studies))
    )
    return {trial_id for trial_id, text in connection.execute(query) if _is_violated(json.loads(text))}


def _is_violated(constraint: Any) -> bool:
    """Whether a constraint, or one of several, is above 0."""
    values = constraint if isinstance(constraint, list) else [constraint]
    return any(isinstance(value, (int, float)) and not value <= 0 for value in values)


def _trials_of(studies: Sequence[str]) -> Select[tuple[int]]:
    named = select(_studies.c.study_id).where(_studies.c.study_name.in_(studies))
    return select(_trials.c.trial_id).where(_trials.c.study_id.in_(named))


def read_parameters(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The parameters of many trials, by trial_id, in the order in which they were set."""
    found: dict[int, dict[str, Any]] = {}
    parsed: dict[str, BaseDistribution] = {}
    for chunk in chunks(trial_ids):
        query = select(_params).where(is_one_of(_params.c.trial_id, chunk))
        for row in connection.execute(query.order_by(_params.c.param_id)):
            if row.distribution_json not in parsed:
                parsed[row.distribution_json] = json_to_distribution(row.distribution_json)
            value = parsed[row.distribution_json].to_external_repr(row.param_value)
            found.setdefault(row.trial_id, {})[row.param_name] = value
    return found


def parameter_names(connection: Connection, study_id: int) -> dict[int, set[str]]:
    """The names of the parameters of every trial of a study that has any, by trial_id."""
    query = select(_params.c.trial_id, _params.c.param_name).join(_trials, _trials.c.trial_id == _params.c.trial_id)
    found: dict[int, set[str]] = {}
    for trial_id, name in connection.execute(query.where(_trials.c.study_id == study_id)):
        found.setdefault(trial_id, set()).add(name)
    return found


def distributions(connection: Connection, study_id: int) -> dict[str, BaseDistribution]:
    """A distribution of each parameter that the trials of a study have, by name."""
    columns = (_params.c.param_name, func.min(_params.c.distribution_json).label("distribution_json"))
    query = select(*columns).join(_trials, _trials.c.trial_id == _params.c.trial_id)
    rows = connection.execute(query.where(_trials.c.study_id == study_id).group_by(_params.c.param_name))
    return {row.param_name: json_to_distribution(row.distribution_json) for row in rows}


def read_artifacts(connection: Connection, study_id: int) -> dict[int, list[str]]:
    """The ids of the artifacts of a study's trials, by trial_id; trials without any are left out."""
    columns = (_system_attrs.c.trial_id, _system_attrs.c.key)
    query = select(*columns).join(_trials, _trials.c.trial_id == _system_attrs.c.trial_id)
    of_study = query.where(_trials.c.study_id == study_id, _system_attrs.c.key.startswith(ATTR_PREFIX))
    found: dict[int, list[str]] = {}
    for trial_id, key in connection.execute(of_study):
        found.setdefault(trial_id, []).append(key.removeprefix(ATTR_PREFIX))
    return found


def read_system_attr(connection: Connection, study_id: int, key: str) -> dict[int, Any]:
    """The values of a system attribute of a study's trials, by trial_id; trials without it are left out."""
    columns = (_system_attrs.c.trial_id, _system_attrs.c.value_json)
    query = select(*columns).join(_trials, _trials.c.trial_id == _system_attrs.c.trial_id)
    rows = connection.execute(query.where(_trials.c.study_id == study_id, _system_attrs.c.key == key))
    return {trial_id: json.loads(value) for trial_id, value in rows}


def read_trials(
    connection: Connection,
    trial_ids: Iterable[int],
    *,
    curves_of: Container[int] | None = None,
    distributions: dict[str, BaseDistribution] | None = None,
) -> list[FrozenTrial]:
    """Trials with all their data, ordered by number; about ten times faster than Optuna's object mapper.

    Args:
        curves_of: The ids of those whose reported values are read; None for all.
        distributions: By their JSON, which is parsed once and added here: trials share the objects.
    """
    ids = sorted(trial_ids)
    trials: list[FrozenTrial] = []
    parsed = {} if distributions is None else distributions
    with _without_collections():
        for chunk in chunks(ids):
            with_curve = chunk if curves_of is None else [each for each in chunk if each in curves_of]
            trials += _read_chunk(connection, chunk, with_curve, parsed)
    return sorted(trials, key=lambda trial: trial.number)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the search for garbage in cycles: among a million new objects, all of them kept, it takes a third."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_chunk(
    connection: Connection, ids: Sequence[int], with_curve: Sequence[int], distributions: dict[str, BaseDistribution]
) -> list[FrozenTrial]:
    found = {
        row.trial_id: FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            datetime_start=_local(row.datetime_start),
            datetime_complete=_local(row.datetime_complete),
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=row.trial_id,
        )
        for row in connection.execute(select(_trials).where(is_one_of(_trials.c.trial_id, ids)))
    }
    params, curves = _params.c, _intermediate.c
    columns: Sequence[Column[Any]] = (params.trial_id, params.param_name, params.param_value, params.distribution_json)
    for trial_id, name, internal, text in _rows(connection, ids, columns, params.param_id):
        # A study has a handful of distributions: parse each JSON text once.
        distribution = distributions.get(text)
        if distribution is None:
            distribution = distributions[text] = json_to_distribution(text)
        found[trial_id].params[name] = distribution.to_external_repr(internal)
        found[trial_id].distributions[name] = distribution
    values: dict[int, list[float]] = {}
    columns = (_values.c.trial_id, _values.c.value, _values.c.value_type)
    for trial_id, stored, kind in _rows(connection, ids, columns, _values.c.objective):
        values.setdefault(trial_id, []).append(as_number(stored, kind))
    for trial_id, each in values.items():
        found[trial_id].values = each
    columns = (curves.trial_id, curves.step, curves.intermediate_value, curves.intermediate_value_type)
    for trial_id, step, stored, kind in _rows(connection, with_curve, columns):
        value = as_number(stored, kind)
        found[trial_id].intermediate_values[step] = value
    columns = (_user_attrs.c.trial_id, _user_attrs.c.key, _user_attrs.c.value_json)
    for trial_id, key, text in _rows(connection, ids, columns, _user_attrs.c.trial_user_attribute_id):
        found[trial_id].user_attrs[key] = json.loads(text)
    columns = (_system_attrs.c.trial_id, _system_attrs.c.key, _system_attrs.c.value_json)
    for trial_id, key, text in _rows(connection, ids, columns):
        found[trial_id].system_attrs[key] = json.loads(text)
    return list(found.values())


def _rows(
    connection: Connection, ids: Sequence[int], columns: Sequence[Column[Any]], order: Column[Any] | None = None
) -> Sequence[Any]:
    """The rows of some trials, whose ids are the first of the columns; all at once, which takes half of one by one."""
    if not ids:
        return []
    return connection.execute(select(*columns).where(is_one_of(columns[0], ids)).order_by(order)).all()


def _local(stored: datetime | None) -> datetime | None:
    return None if stored is None else stored.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
