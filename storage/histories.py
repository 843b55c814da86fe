"""What trials went through: their curves, and when they ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from storage import optuna_reading
from storage.database import Database
from storage.schema import runs
from storage.slots import parameters_of


@dataclass(frozen=True)
class RunHistory:
    """One trial over time.

    Attributes:
        cell: The parameters with the seed.
        state: One of `storage.summaries.STATES`.
        started: When it was first claimed, UTC; None before.
        ended: When it ended, UTC; None before.
        curve: Step to validation loss, steps ascending; losses may be NaN or infinite where training diverged.
        attrs: The user attributes asked for.
    """

    study: str
    cell: Mapping[str, Any]
    state: str
    started: datetime | None
    ended: datetime | None
    curve: Mapping[int, float]
    attrs: Mapping[str, Any]


def run_histories(database: Database, studies: Sequence[str], attrs: Sequence[str] = ()) -> list[RunHistory]:
    """The trials of `studies`, by study and number.

    Args:
        attrs: Names of the user attributes to read along.
    """
    columns = (runs.c.study, runs.c.cell, runs.c.state, runs.c.outcome, runs.c.trial_id)
    query = select(*columns).where(runs.c.study.in_(studies)).order_by(runs.c.study, runs.c.number)

    def work(connection: Connection) -> list[RunHistory]:
        rows = connection.execute(query).all()
        ids = [row.trial_id for row in rows]
        curves = optuna_reading.read_curves(connection, ids)
        times = optuna_reading.read_times(connection, ids)
        found = optuna_reading.read_user_attrs(connection, ids, attrs)
        return [
            RunHistory(
                study=row.study,
                cell=parameters_of(row.cell),
                state=row.outcome if row.state == "done" else row.state,
                started=times.get(row.trial_id, (None, None))[0],
                ended=times.get(row.trial_id, (None, None))[1],
                curve=curves.get(row.trial_id, {}),
                attrs=found.get(row.trial_id, {}),
            )
            for row in rows
        ]

    return database.read(work)
