"""Plans a study that depends on the results of another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.planning import StudyPlan, plan_one
from search.storage.schema import NOT_RUN, queue_table


@dataclass(frozen=True)
class Results:
    """The results of a study in which every trial has ended.

    Attributes:
        trials: Cell, outcome and value of each trial, in the order of their numbers.
    """

    study: str
    trials: tuple[tuple[str, str | None, float | None], ...]


def final_results(database: Database, study: str) -> Results | None:
    """The results of a study; None while a trial of it has not ended, or if it has no trials."""
    return database.read(lambda connection: _results(connection, study))


def _results(connection: Connection, study: str) -> Results | None:
    columns = (queue_table.c[name] for name in ("state", "cell", "outcome", "value"))
    query = select(*columns).where(queue_table.c.study == study).order_by(queue_table.c.number)
    rows = [row for row in connection.execute(query) if row.state != NOT_RUN]
    if not rows or any(row.state != "done" for row in rows):
        return None
    return Results(study, tuple((row.cell, row.outcome, row.value) for row in rows))


def plan_after(database: Database, results: Results, name: str, make: Callable[[Mapping[str, Any]], StudyPlan]) -> bool:
    """Plan a study unless the results that it depends on have changed since they were read.

    Args:
        name: The study to plan.
        make: Makes its plan, given its user attributes so far.

    Returns:
        Whether it is planned; False if the results have changed.

    Raises:
        DefinitionChanged: As for `search.storage.planning.plan`.
    """

    def work(connection: Connection) -> bool:
        database.dialect.cascade_deletions(connection)
        for each in sorted((results.study, name)):
            # In the order of names, as every planner locks.
            database.lock(connection, f"search plan {each}")
        if _results(connection, results.study) != results:
            return False
        study_id = optuna_tables.study_id(connection, name)
        plan_one(
            database, connection, make({} if study_id is None else optuna_tables.study_attrs(connection, study_id))
        )
        return True

    return database.write(work)
