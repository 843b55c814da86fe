"""Reads trials over time: their curves, times and results, for the page of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, tuple_

from search.storage import optuna_queries
from search.storage.chunks import chunks
from search.storage.database import Database
from search.storage.metrics import has_metrics, read_metrics
from search.storage.queries import cells_of
from search.storage.schema import queue_table


@dataclass(frozen=True)
class TrialHistory:
    """One trial over time.

    Attributes:
        cell: The parameters with the seed.
        state: One of `search.storage.queries.STATES`.
        started: Time of the first claim, UTC; None before it.
        ended: Time of its end, UTC; None before it.
        curve: Step to validation loss, steps ascending; losses may be NaN or infinite where training diverged.
        attrs: The requested user attributes.
        value: The final value; None unless it is complete.
        metrics: Step to the metrics besides the value, by name; empty if they were not read.
    """

    study: str
    cell: Mapping[str, Any]
    state: str
    started: datetime | None
    ended: datetime | None
    curve: Mapping[int, float]
    attrs: Mapping[str, Any]
    value: float | None = None
    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The trial's seed."""
        return int(self.cell["seed"])


def trial_histories(
    database: Database,
    studies: Sequence[str],
    attrs: Sequence[str] = (),
    with_metrics: bool = False,
    chosen: Sequence[tuple[str, int]] | None = None,
) -> list[TrialHistory]:
    """The trials of `studies`, ordered by study and number.

    Args:
        attrs: Names of the user attributes to include.
        with_metrics: Whether to read the curves of further metrics.
        chosen: Study and number of the trials to read; None for all.
    """
    columns = (
        queue_table.c.study,
        queue_table.c.cell,
        queue_table.c.state,
        queue_table.c.outcome,
        queue_table.c.value,
        queue_table.c.trial_id,
    )
    of_studies = select(*columns).where(queue_table.c.study.in_(studies))
    query = optuna_queries.with_times(of_studies, queue_table.c.trial_id).order_by(
        queue_table.c.study, queue_table.c.number
    )

    def work(connection: Connection) -> list[TrialHistory]:
        rows = connection.execute(query).all() if chosen is None else _rows(connection, query, chosen)
        ids = [row.trial_id for row in rows]
        curves = optuna_queries.read_curves(connection, ids)
        metrics = read_metrics(connection, ids) if with_metrics and has_metrics(connection) else {}
        found = optuna_queries.read_user_attrs(connection, ids, attrs)
        cells = cells_of(connection, rows)
        return [
            TrialHistory(
                study=row.study,
                cell=cells[row.trial_id],
                state=row.outcome if row.state == "done" else row.state,
                started=row.datetime_start,
                ended=row.datetime_complete,
                curve=curves.get(row.trial_id, {}),
                attrs=found.get(row.trial_id, {}),
                metrics=metrics.get(row.trial_id, {}),
                value=row.value if row.outcome == "complete" else None,
            )
            for row in rows
        ]

    return database.read(work)


def _rows(connection: Connection, query: Select[Any], chosen: Sequence[tuple[str, int]]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for chunk in chunks(sorted(chosen)):
        found += connection.execute(query.where(tuple_(queue_table.c.study, queue_table.c.number).in_(chunk)))
    return found


@dataclass(frozen=True)
class TrialSpan:
    """When a trial ran.

    Attributes:
        state: One of `search.storage.queries.STATES`.
        started: Time of the first claim, UTC.
        ended: Time of its end, UTC.
    """

    state: str
    started: datetime
    ended: datetime


def trial_spans(database: Database, studies: Sequence[str]) -> list[TrialSpan]:
    """When each ended trial of `studies` ran, ordered by study and number."""
    queue = queue_table.c
    query = optuna_queries.with_times(select(queue.state, queue.outcome), queue.trial_id)
    ordered = query.where(queue.study.in_(studies)).order_by(queue.study, queue.number)

    def work(connection: Connection) -> list[TrialSpan]:
        return [
            TrialSpan(outcome if state == "done" else state, started, ended)
            for state, outcome, started, ended in connection.execute(ordered)
            if started is not None and ended is not None
        ]

    return database.read(work)
