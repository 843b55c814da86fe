"""The steps of a claim inside the queue's transaction: choose trials and assign them to the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, or_, select, update

from search.storage import crashes, optuna_tables
from search.storage.crashes import has_progressed
from search.storage.leases import LEASE_FACTOR, ExpiredLease, Lease
from search.storage.schema import queue_table

LEASE_COLUMNS = tuple(
    queue_table.c[name]
    for name in ("id", "study", "study_uid", "cell", "trial_id", "number", "owner", "token", "attempts", "shape_key")
)

EXPIRED_COLUMNS = ("id", "study_uid", "owner", "attempts", "step", "failure")


def is_due(now: float) -> ColumnElement[bool]:
    """Waiting trials whose back-off has ended."""
    return and_(queue_table.c.state == "waiting", queue_table.c.not_before <= now)


@dataclass(frozen=True)
class Claims:
    """The claims of one worker.

    Attributes:
        owner: The worker's name.
        lease_s: How long a claim lasts, in seconds of the database's clock.
        max_attempts: How many attempts in a row may end without progress before the trial fails for good.
    """

    owner: str
    lease_s: float
    max_attempts: int

    def expired(self, connection: Connection, uids: Sequence[str], limit: int, now: float) -> list[int]:
        """Ids of running trials of this worker or with an expired lease; exhausted trials fail instead."""
        expired = or_(queue_table.c.lease_until < now, queue_table.c.owner == self.owner)
        trials = self.pick(connection, uids, and_(queue_table.c.state == "running", expired), limit)
        others = [each for each in trials if each.owner != self.owner]
        gone = [ExpiredLease(*(getattr(each, name) for name in EXPIRED_COLUMNS)) for each in others]
        crashes.note_hosts_gone(connection, gone, now)
        exhausted = [each for each in trials if self._is_exhausted(each)]
        for each in exhausted:
            crashes.fail_exhausted(connection, each, now)
        return [each.id for each in trials if each not in exhausted]

    def _is_exhausted(self, trial: Row[Any]) -> bool:
        return bool(trial.attempts >= self.max_attempts and not trial.progressed and trial.owner != self.owner)

    def pick(
        self, connection: Connection, uids: Sequence[str], condition: ColumnElement[bool], limit: int
    ) -> Sequence[Row[Any]]:
        """Lock the first trials that meet a condition; returns what `expired` needs of each."""
        table = queue_table.c
        query: Select[Any] = (
            select(queue_table, has_progressed().label("progressed"))
            .where(table.study_uid.in_(uids), condition)
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
                attempts=case((already_held, table.attempts), (has_progressed(), 1), else_=table.attempts + 1),
                lost_leases=case((and_(~already_held, has_progressed()), 0), else_=table.lost_leases),
                step_at_claim=case((already_held, table.step_at_claim), else_=table.highest_step),
                lease_until=now + self.lease_s * LEASE_FACTOR,
                started_at=now,
            )
            .returning(*LEASE_COLUMNS)
        )
        leases = sorted((Lease(*row) for row in claimed), key=lambda lease: ids.index(lease.queue_id))
        optuna_tables.start_trials(connection, [lease.trial_id for lease in leases], now)
        return leases
