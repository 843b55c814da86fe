"""The steps of a claim inside the queue's transaction: choose trials and assign them to the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, or_, select, update

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.leases import Lease
from search.storage.schema import queue_table
from search.storage.state_transitions import end_trials


def database_time(database: Database, connection: Connection) -> float:
    """Seconds since 1970 by the database's clock."""
    return float(connection.execute(select(database.now())).scalar_one())


def is_due(now: float) -> ColumnElement[bool]:
    """Waiting trials whose back-off has ended."""
    return and_(queue_table.c.state == "waiting", queue_table.c.not_before <= now)


@dataclass(frozen=True)
class Claims:
    """The claims of one worker.

    Attributes:
        owner: The worker's name.
        lease_s: How long a claim lasts, in seconds of the database's clock.
        max_attempts: How many workers may crash while training a trial before the trial fails for good.
    """

    database: Database
    owner: str
    lease_s: float
    max_attempts: int

    def now(self, connection: Connection) -> float:
        """As `database_time`."""
        return database_time(self.database, connection)

    def expired(self, connection: Connection, studies: Sequence[str], limit: int, now: float) -> list[int]:
        """Ids of running trials of this worker or with an expired lease; exhausted trials fail instead."""
        expired = or_(queue_table.c.lease_until < now, queue_table.c.owner == self.owner)
        trials = self.pick(connection, studies, and_(queue_table.c.state == "running", expired), limit)
        exhausted = [each for each in trials if each.attempts >= self.max_attempts and each.owner != self.owner]
        for each in exhausted:
            _fail_exhausted(connection, each, now)
        return [each.id for each in trials if each not in exhausted]

    def pick(
        self, connection: Connection, studies: Sequence[str], condition: ColumnElement[bool], limit: int
    ) -> Sequence[Row[Any]]:
        """Lock the first trials that meet a condition; returns id, trial_id, attempts and owner of each."""
        table = queue_table.c
        query: Select[Any] = (
            select(table.id, table.trial_id, table.attempts, table.owner)
            .where(table.study.in_(studies), condition)
            .order_by(table.priority, table.id)
            .limit(limit)
            # Skip trials that another worker is claiming now, instead of waiting for it.
            .with_for_update(skip_locked=True)
        )
        return connection.execute(query).all()

    def lease(self, connection: Connection, ids: list[int], now: float) -> list[Lease]:
        """Assign trials to the worker; the leases have the order of `ids`."""
        if not ids:
            return []
        table = queue_table.c
        # A trial that this worker already holds costs no attempt: no worker crashed.
        already_held = and_(table.state == "running", table.owner == self.owner)
        claimed = connection.execute(
            update(queue_table)
            .where(table.id.in_(ids))
            .values(
                state="running",
                owner=self.owner,
                token=table.token + 1,
                attempts=table.attempts + case((already_held, 0), else_=1),
                lease_until=now + self.lease_s,
                started_at=now,
            )
            .returning(
                *(table.id, table.study, table.cell, table.trial_id, table.number),
                *(table.owner, table.token, table.attempts, table.shape_key),
            )
        )
        leases = sorted((Lease(*row) for row in claimed), key=lambda lease: ids.index(lease.queue_id))
        optuna_tables.start_trials(connection, [lease.trial_id for lease in leases], now)
        return leases


def _fail_exhausted(connection: Connection, trial: Row[Any], now: float) -> None:
    workers = f"{trial.attempts} worker{'' if trial.attempts == 1 else 's'}"
    reason = f"{workers} crashed while training this trial; last: {trial.owner}"
    end_trials(connection, queue_table.c.id == trial.id, "failed", None, reason, now)
    # Its last worker can still be alive; the old token keeps it from writing to the ended trial.
    connection.execute(update(queue_table).where(queue_table.c.id == trial.id).values(token=queue_table.c.token + 1))
    optuna_tables.finish_trial(connection, trial.trial_id, TrialState.FAIL, None, {"reason": reason}, now)
