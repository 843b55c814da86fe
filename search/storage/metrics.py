"""The metrics that trials report besides their value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from search.storage import optuna_queries
from search.storage.chunks import chunks, is_one_of
from search.storage.database import Database
from search.storage.dialects import upsert
from search.storage.optuna_queries import read_curves
from search.storage.schema import metrics_table, queue_table, stored_version
from search.storage.texts import storable_json

# How the names of metrics begin that are not the objective's.
INTERNAL = "@"
METRICS_VERSION = 5


def write_metrics(connection: Connection, trial_id: int, step: int, metrics: Mapping[str, float]) -> None:
    """Store the metrics of one step, replacing earlier ones."""
    write_all_metrics(connection, [(trial_id, step, metrics)])


def write_all_metrics(connection: Connection, found: Iterable[tuple[int, int, Mapping[str, float]]]) -> None:
    """Store metrics of trials, each with the id of the trial and the step, replacing earlier ones."""
    rows = [
        {"trial_id": trial_id, "step": step, "metrics": storable_json(dict(metrics))}
        for trial_id, step, metrics in found
        if metrics
    ]
    upsert(connection, metrics_table, rows, ("trial_id", "step"))


def add_metrics(connection: Connection, trial_id: int, step: int, metrics: Mapping[str, float]) -> None:
    """Add metrics to those of one step; the new ones win."""
    which = (metrics_table.c.trial_id == trial_id, metrics_table.c.step == step)
    stored = connection.execute(select(metrics_table.c.metrics).where(*which)).scalar()
    write_metrics(connection, trial_id, step, {**({} if stored is None else json.loads(stored)), **metrics})


def delete_metrics(connection: Connection, trial_id: int, from_step: int = 0) -> None:
    """Delete the metrics of a trial from a step on."""
    which = (metrics_table.c.trial_id == trial_id, metrics_table.c.step >= from_step)
    connection.execute(metrics_table.delete().where(*which))


def read_evaluations(database: Database, trial_id: int) -> dict[int, tuple[float, dict[str, float]]]:
    """What the attempts of a trial have reported: step to the value and the metrics beside it, steps ascending."""

    def work(connection: Connection) -> dict[int, tuple[float, dict[str, float]]]:
        metrics = read_metrics(connection, [trial_id]).get(trial_id, {})
        curve = read_curves(connection, [trial_id]).get(trial_id, {})
        return {step: (value, metrics.get(step, {})) for step, value in curve.items()}

    return database.read(work)


@dataclass(frozen=True)
class FurtherResults:
    """What the queue does not have of a trial's results.

    Attributes:
        metrics: The last value of each metric that it reported besides the study's.
        values: The values of further objectives; empty unless it is complete.
        is_feasible: Whether it keeps all constraints that its objective has set, as Optuna defines it.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    values: Sequence[float] = ()
    is_feasible: bool = True


def further_results(
    database: Database, studies: Sequence[str], with_metrics: bool = True
) -> dict[tuple[str, int], FurtherResults]:
    """The further results of the trials of some studies, by study and number; without trials that have none.

    Args:
        with_metrics: Whether to read the metrics.
    """

    def work(connection: Connection) -> dict[tuple[str, int], FurtherResults]:
        query = select(queue_table.c.study, queue_table.c.number, queue_table.c.trial_id)
        rows = connection.execute(query.where(queue_table.c.study.in_(studies))).all()
        ids = [row.trial_id for row in rows]
        metrics = _last_metrics(connection, ids) if with_metrics and has_metrics(connection) else {}
        values = optuna_queries.read_further_values(connection, studies)
        infeasible = optuna_queries.read_infeasible(connection, studies)
        return {
            (row.study, row.number): FurtherResults(
                metrics.get(row.trial_id, {}), values.get(row.trial_id, ()), row.trial_id not in infeasible
            )
            for row in rows
            if row.trial_id in metrics or row.trial_id in values or row.trial_id in infeasible
        }

    return database.read(work)


def reported(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that the objective itself has reported."""
    return {name: value for name, value in metrics.items() if not name.startswith(INTERNAL)}


def has_metrics(connection: Connection) -> bool:
    """Whether the database has the table."""
    return stored_version(connection) >= METRICS_VERSION


def read_metrics(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[int, dict[str, float]]]:
    """The metrics of many trials: trial_id to step to metrics by name, steps ascending."""
    found: dict[int, dict[int, dict[str, float]]] = {}
    for trial_id, step, metrics in _metrics_of(connection, trial_ids):
        found.setdefault(trial_id, {})[step] = metrics
    return found


def _last_metrics(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[str, float]]:
    """The last value of each metric of many trials, by trial_id; the curves are never in memory together."""
    found: dict[int, dict[str, float]] = {}
    for trial_id, _, metrics in _metrics_of(connection, trial_ids):
        found.setdefault(trial_id, {}).update(reported(metrics))
    return found


def _metrics_of(connection: Connection, trial_ids: Sequence[int]) -> Iterator[tuple[int, int, dict[str, float]]]:
    table = metrics_table.c
    query = select(table.trial_id, table.step, table.metrics).order_by(table.trial_id, table.step)
    for chunk in chunks(trial_ids):
        for trial_id, step, text in connection.execute(query.where(is_one_of(table.trial_id, chunk))):
            yield trial_id, step, json.loads(text)
