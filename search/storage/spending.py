"""What the trials of a study have taken, and the budget that says when no further one begins.

Each worker counts in a row of its own, so what killed and failed attempts took counts too, and the sum costs as much as
there were workers. Between two counts a worker is taken to go on at the same rate, for a while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from search.storage import optuna_queries
from search.storage.database import Database
from search.storage.dialects import upsert
from search.storage.left_out import BUDGET_SPENT, leave_out, resume
from search.storage.schema import spending_table, stored_version, studies_table, uids_of

Unit = Literal["seconds", "flops"]
# The user attribute of a study with the budget of its last run: JSON of `Budget.as_dict`, null without one.
BUDGET = "budget"


@dataclass(frozen=True)
class Budget:
    """How much the trials of a study and of its siblings may take.

    Attributes:
        unit: Seconds on their devices, or floating-point operations.
    """

    unit: Unit
    amount: float

    def as_dict(self) -> dict[str, float]:
        """As JSON."""
        return {self.unit: self.amount}

    @classmethod
    def of(cls, stored: Mapping[str, float] | None) -> Budget | None:
        """A budget from its JSON; None if there is none."""
        for unit in ("seconds", "flops") if stored else ():
            if stored is not None and unit in stored:
                return cls(unit, stored[unit])
        return None


@dataclass(frozen=True)
class Spent:
    """What trials have taken, running ones up to now."""

    seconds: float = 0.0
    flops: float = 0.0

    def has_reached(self, budget: Budget) -> bool:
        """Whether that is a whole budget."""
        return self.of(budget.unit) >= budget.amount

    def of(self, unit: Unit) -> float:
        """The amount in a unit."""
        return self.seconds if unit == "seconds" else self.flops


_table = spending_table.c
_now = bindparam("now", type_=_table.counted_at.type)
_until = case((_table.busy_until < _now, _table.busy_until), else_=_now)
_since = case((or_(_table.busy_until.is_(None), _until < _table.counted_at), 0.0), else_=_until - _table.counted_at)
_rate = case((_table.seconds > 0.0, _table.flops / _table.seconds), else_=0.0)
# Built once: building a statement takes longer than running it.
_SPENT = select(
    func.sum(_table.seconds + _since).label("seconds"), func.sum(_table.flops + _since * _rate).label("flops")
)
_SPENT = _SPENT.where(_table.study_uid.in_(bindparam("uids", expanding=True)))
_of_uid = select(studies_table.c.study_id).where(studies_table.c.uid == bindparam("uid")).scalar_subquery()
_BUDGET = optuna_queries.study_attr(_of_uid, BUDGET)


def count_spending(database: Database, uid: str, owner: str, total: Spent, busy_s: float | None) -> None:
    """Store what a worker has taken for a study.

    Args:
        uid: The planning of the study.
        total: Since the worker began, so that the same count twice does no harm.
        busy_s: For how long it is taken to go on; None if it has no trial.
    """

    def work(connection: Connection) -> None:
        if connection.execute(select(studies_table.c.uid).where(studies_table.c.uid == uid)).first() is None:
            return  # the study was deleted
        now = database.time(connection)
        row = {"study_uid": uid, "owner": owner, "seconds": total.seconds, "flops": total.flops, "counted_at": now}
        busy_until = None if busy_s is None else now + busy_s
        upsert(connection, spending_table, [{**row, "busy_until": busy_until}], ("study_uid", "owner"))

    with suppress(IntegrityError):  # another program deletes the study at this moment
        database.write(work)


def import_spending(connection: Connection, uid: str, spent: Spent, now: float) -> None:
    """Store what the trials of an imported study took elsewhere."""
    row = {"study_uid": uid, "owner": "imported", "seconds": spent.seconds, "flops": spent.flops, "counted_at": now}
    connection.execute(insert(spending_table).values(row))


def end_spending(connection: Connection, owner: str, now: float) -> None:
    """A worker has died: it takes nothing after this moment."""
    alive = (spending_table.c.owner == owner) & (spending_table.c.busy_until > now)
    connection.execute(update(spending_table).where(alive).values(busy_until=now))


def budget_of(database: Database, uid: str) -> Budget | None:
    """The budget of the last run of a study, given the uid of its planning."""
    return database.read(lambda connection: _budget(connection, uid))


def spent_by(database: Database, uids: Sequence[str]) -> Spent:
    """What the trials of some plannings of studies have taken."""
    return database.read(lambda connection: spent_in(database, connection, uids))


def spent_of_worker(database: Database, uid: str, owner: str) -> Spent:
    """What a worker has taken so far."""

    def work(connection: Connection) -> Spent:
        of_worker = _SPENT.where(_table.owner == owner)
        found = connection.execute(of_worker, {"uids": [uid], "now": database.time(connection)}).one()
        return Spent(found.seconds or 0.0, found.flops or 0.0)

    return database.read(work)


def spent_on(database: Database, studies: Sequence[str]) -> Spent:
    """What the trials of studies have taken; nothing in a database that was not upgraded."""

    def work(connection: Connection) -> Spent:
        if stored_version(connection) < 6:
            return Spent()
        return spent_in(database, connection, uids_of(connection, studies))

    return database.read(work)


def settle_budget(database: Database, study: str, *siblings: str) -> bool:
    """Leave out the trials that no worker has begun if the budget is spent; else return them to the queue.

    It takes the lock of planning, so that no worker decides by the budget of an earlier run.

    Args:
        siblings: The names of the other studies that share the budget, planned or not.

    Returns:
        Whether the budget is spent.
    """

    def work(connection: Connection) -> bool:
        database.lock(connection, f"search plan {study}")
        uids = uids_of(connection, [study])
        budget = _budget(connection, uids[0]) if uids else None
        uids += uids_of(connection, siblings)
        if budget is not None and spent_in(database, connection, uids).has_reached(budget):
            leave_out(connection, uids, BUDGET_SPENT)
            return True
        resume(connection, uids, BUDGET_SPENT)
        return False

    return database.write(work)


def _budget(connection: Connection, uid: str) -> Budget | None:
    stored: Any = connection.execute(_BUDGET, {"uid": uid}).scalar()
    return None if stored is None else Budget.of(json.loads(stored))


def spent_in(database: Database, connection: Connection, uids: Sequence[str]) -> Spent:
    """As `spent_by`, in a transaction."""
    found = connection.execute(_SPENT, {"uids": list(uids), "now": database.time(connection)}).one()
    return Spent(found.seconds or 0.0, found.flops or 0.0)
