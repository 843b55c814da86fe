"""The cells of planned trials, with what their complete trials have taken; for an estimate before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from search.storage import optuna_queries
from search.storage.database import Database
from search.storage.schema import queue_table
from search.storage.slots import cell_and_seed, is_empty_slot
from search.storage.values import canonical


@dataclass
class PlannedCell:
    """A cell of a study.

    Attributes:
        cell: Its values without the seed; empty for the places of a sampler that has not chosen yet.
        left: How many of its trials have not ended.
        ended: The attributes of its complete trials that were asked for.
    """

    cell: Mapping[str, Any]
    left: int
    ended: list[Mapping[str, Any]]


def planned_cells(database: Database, studies: Sequence[str], attrs: Sequence[str]) -> list[PlannedCell]:
    """The cells of studies, in the order of planning.

    Args:
        attrs: The user attributes of complete trials to read.
    """
    table = queue_table.c
    columns = (table.cell, table.state, table.outcome, table.trial_id)
    query = select(*columns).where(table.study.in_(studies)).order_by(table.id)
    rows = database.read(lambda connection: connection.execute(query).all())
    ids = [row.trial_id for row in rows if row.outcome == "complete"]
    found = database.read(lambda connection: optuna_queries.read_user_attrs(connection, ids, attrs))
    cells: dict[str, PlannedCell] = {}
    for row in rows:
        cell = {} if is_empty_slot(row.cell) else dict(cell_and_seed(row.cell)[0])
        planned = cells.setdefault(canonical(cell), PlannedCell(cell, 0, []))
        planned.left += row.state in ("waiting", "running")
        if row.outcome == "complete":
            planned.ended.append(found.get(row.trial_id, {}))
    return list(cells.values())
