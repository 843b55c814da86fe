"""The metrics that trials report besides their value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from search.storage.database import Database
from search.storage.dialects import upsert
from search.storage.optuna_queries import read_curves
from search.storage.schema import metrics_table
from search.storage.texts import storable_json

# Databases limit the number of bound values of one statement.
_CHUNK = 500


def write_metrics(connection: Connection, trial_id: int, step: int, metrics: Mapping[str, float]) -> None:
    """Store the metrics of one step, replacing earlier ones."""
    if metrics:
        row = {"trial_id": trial_id, "step": step, "metrics": storable_json(dict(metrics))}
        upsert(connection, metrics_table, [row], ("trial_id", "step"))


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


def read_metrics(connection: Connection, trial_ids: Sequence[int]) -> dict[int, dict[int, dict[str, float]]]:
    """The metrics of many trials: trial_id to step to metrics by name, steps ascending."""
    found: dict[int, dict[int, dict[str, float]]] = {}
    table = metrics_table.c
    for start in range(0, len(trial_ids), _CHUNK):
        query = select(table.trial_id, table.step, table.metrics).order_by(table.trial_id, table.step)
        for trial_id, step, text in connection.execute(
            query.where(table.trial_id.in_(trial_ids[start : start + _CHUNK]))
        ):
            found.setdefault(trial_id, {})[step] = json.loads(text)
    return found
